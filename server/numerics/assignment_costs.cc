#include "server/numerics/assignment_costs_internal.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <utility>

#include "moescope/base/status_macros.h"
#include "server/numerics/assignment_kernels_internal.h"

namespace moescope::numerics::internal {
namespace {

// Of the transport: temperatures fall by halves from a quarter of the spread;
// at each, passes until columns get about as much as they should. Steps are
// longer than Sinkhorn's by this factor, which converges sooner.
constexpr int kTemperatures = 13;
constexpr int kPassesPerTemperature = 4;
constexpr double kMarginError = 0.1;
constexpr float kStep = 1.6F;

// Rows are shared out in so many blocks, whatever the number of threads: sums
// over rows are then the same.
constexpr std::int64_t kRowBlocks = 32;

// One step towards columns that get 1 each; returns how far off they were on
// average.
double MoveDuals(const std::vector<float>& sums, std::vector<float>& duals) {
  double error = 0;
  for (std::size_t j = 0; j < sums.size(); ++j) {
    duals[j] -= kStep * std::log2(std::max(sums[j], 1e-30F));
    error += std::fabs(static_cast<double>(sums[j]) - 1);
  }
  return error / static_cast<double>(sums.size());
}

// Part by part, in their order; those of blocks without rows are empty.
template <typename Number>
std::vector<Number> SumOfParts(const std::vector<std::vector<Number>>& parts,
                               std::size_t size) {
  std::vector<Number> sums(size, Number{0});
  for (const std::vector<Number>& part : parts) {
    for (std::size_t j = 0; j < part.size(); ++j) {
      sums[j] += part[j];
    }
  }
  return sums;
}

}  // namespace

NarrowDuals Narrow(const std::vector<std::int64_t>& column) {
  const auto [least, most] = std::minmax_element(column.begin(), column.end());
  NarrowDuals narrow;
  narrow.offset = *least + (*most - *least) / 2;
  if (*most - narrow.offset >= kMaxShift) {
    return narrow;
  }
  narrow.column.reserve(column.size());
  for (const std::int64_t dual : column) {
    narrow.column.push_back(static_cast<std::int32_t>(dual - narrow.offset));
  }
  return narrow;
}

absl::Status MemoryCosts::ForRowBlocks(
    const RunContext& context,
    const std::function<void(std::int64_t row, std::int64_t block)>& body) {
  const std::int64_t blocks = std::min(size_, kRowBlocks);
  return pool_.ParallelFor(blocks, [&](std::int64_t block) -> absl::Status {
    for (std::int64_t i = block * size_ / blocks;
         i < (block + 1) * size_ / blocks; ++i) {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
      body(i, block);
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<Core> MemoryCosts::ChooseCore(
    const std::vector<std::int32_t>& row_shift,
    const std::vector<std::int32_t>& column_shift, std::int64_t count,
    const RunContext& context) {
  return internal::ChooseCore({size_, costs_, row_shift, column_shift}, count,
                              pool_, context, memory_);
}

namespace {

// Appends the row to `violations` if it has any.
class RowPricer {
 public:
  RowPricer(const Duals& duals, const NarrowDuals& narrow, std::int64_t count)
      : duals_(duals), narrow_(narrow), count_(count) {}

  void Price(std::int64_t i, const std::int32_t* row,
             std::vector<Violation>& violations) {
    const auto size = static_cast<std::int64_t>(duals_.column.size());
    found_.resize(static_cast<std::size_t>(size + kCollectPadding));
    const std::int64_t n = Collect(i, row, size);
    if (n == 0) {
      return;
    }
    const auto worse = [&](std::int32_t a, std::int32_t b) {
      const std::int64_t x =
          row[a] - duals_.column[static_cast<std::size_t>(a)];
      const std::int64_t y =
          row[b] - duals_.column[static_cast<std::size_t>(b)];
      return x < y || (x == y && a < b);
    };
    if (n > count_) {
      std::nth_element(found_.begin(), found_.begin() + count_,
                       found_.begin() + n, worse);
    }
    violations.push_back({i, {}});
    for (std::int64_t f = 0; f < std::min(n, count_); ++f) {
      const std::int32_t j = found_[static_cast<std::size_t>(f)];
      violations.back().arcs.push_back({j, row[j]});
    }
  }

 private:
  std::int64_t Collect(std::int64_t i, const std::int32_t* row,
                       std::int64_t size) {
    const std::int64_t dual = duals_.row[static_cast<std::size_t>(i)];
    if (narrow_.column.empty()) {
      return CollectBelowWide(row, duals_.column.data(), 0, size, dual,
                              found_.data());
    }
    const std::int64_t bound = std::clamp<std::int64_t>(
        dual + narrow_.offset, std::numeric_limits<std::int32_t>::min(),
        std::numeric_limits<std::int32_t>::max());
    return CollectBelow(row, narrow_.column.data(), 0, size,
                        static_cast<std::int32_t>(bound), found_.data());
  }

  const Duals& duals_;
  const NarrowDuals& narrow_;
  const std::int64_t count_;
  std::vector<std::int32_t> found_;
};

}  // namespace

absl::StatusOr<std::vector<Violation>> MemoryCosts::FindViolations(
    const Duals& duals, std::int64_t count, const RunContext& context) {
  const NarrowDuals narrow = Narrow(duals.column);
  std::vector<RowPricer> pricers(kRowBlocks, RowPricer(duals, narrow, count));
  std::vector<std::vector<Violation>> found(kRowBlocks);
  MOESCOPE_RETURN_IF_ERROR(
      ForRowBlocks(context, [&](std::int64_t i, std::int64_t block) {
        const auto b = static_cast<std::size_t>(block);
        pricers[b].Price(i, Row(i), found[b]);
      }));
  std::vector<Violation> violations;
  for (std::vector<Violation>& part : found) {
    std::move(part.begin(), part.end(), std::back_inserter(violations));
  }
  return violations;
}

absl::StatusOr<std::vector<std::int64_t>> MemoryCosts::RowMinima(
    const std::vector<std::int64_t>& column_duals, const RunContext& context) {
  std::vector<std::int64_t> minima(static_cast<std::size_t>(size_));
  MOESCOPE_RETURN_IF_ERROR(
      ForRowBlocks(context, [&](std::int64_t i, std::int64_t) {
        minima[static_cast<std::size_t>(i)] =
            LeastDifference(Row(i), column_duals.data(), size_);
      }));
  return minima;
}

absl::StatusOr<std::vector<double>> MemoryCosts::RowSums(
    const std::vector<double>& x, const RunContext& context) {
  std::vector<double> sums(x.size());
  MOESCOPE_RETURN_IF_ERROR(
      ForRowBlocks(context, [&](std::int64_t i, std::int64_t) {
        sums[static_cast<std::size_t>(i)] = DotCosts(Row(i), x.data(), size_);
      }));
  return sums;
}

absl::StatusOr<std::vector<double>> MemoryCosts::ColumnSums(
    const std::vector<double>& x, const RunContext& context) {
  std::vector<std::vector<double>> sums(kRowBlocks);
  MOESCOPE_RETURN_IF_ERROR(
      ForRowBlocks(context, [&](std::int64_t i, std::int64_t block) {
        std::vector<double>& part = sums[static_cast<std::size_t>(block)];
        part.resize(x.size(), 0.0);
        AddCosts(Row(i), x[static_cast<std::size_t>(i)], size_, part.data());
      }));
  return SumOfParts(sums, x.size());
}

absl::StatusOr<double> MemoryCosts::Spread(const RunContext& context) {
  std::vector<std::int32_t> least(static_cast<std::size_t>(size_));
  std::vector<std::int32_t> most(least.size());
  MOESCOPE_RETURN_IF_ERROR(
      ForRowBlocks(context, [&](std::int64_t i, std::int64_t) {
        const auto [low, high] = std::minmax_element(Row(i), Row(i) + size_);
        least[static_cast<std::size_t>(i)] = *low;
        most[static_cast<std::size_t>(i)] = *high;
      }));
  return static_cast<double>(*std::max_element(most.begin(), most.end())) -
         static_cast<double>(*std::min_element(least.begin(), least.end()));
}

absl::StatusOr<std::vector<float>> MemoryCosts::SumTransport(
    const std::vector<float>& duals, double temperature,
    const RunContext& context) {
  std::vector<std::vector<float>> sums(kRowBlocks);
  std::vector<std::vector<float>> buffers(kRowBlocks);
  MOESCOPE_RETURN_IF_ERROR(
      ForRowBlocks(context, [&](std::int64_t i, std::int64_t block) {
        std::vector<float>& part = sums[static_cast<std::size_t>(block)];
        std::vector<float>& buffer = buffers[static_cast<std::size_t>(block)];
        part.resize(duals.size(), 0.0F);
        buffer.resize(duals.size());
        AddTransportRow(Row(i), duals.data(), size_,
                        static_cast<float>(-1 / temperature), buffer.data(),
                        part.data());
      }));
  return SumOfParts(sums, duals.size());
}

absl::StatusOr<std::vector<std::int32_t>> MemoryCosts::TransportDuals(
    const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(const double spread, Spread(context));
  return AnnealDuals(size_, spread,
                     [&](const std::vector<float>& duals, double temperature) {
                       return SumTransport(duals, temperature, context);
                     });
}

std::vector<std::int32_t> MemoryCosts::Entries(
    const std::vector<std::int64_t>& rows,
    const std::vector<std::int64_t>& columns) {
  std::vector<std::int32_t> entries;
  entries.reserve(rows.size());
  for (std::size_t k = 0; k < rows.size(); ++k) {
    entries.push_back(Row(rows[k])[columns[k]]);
  }
  return entries;
}

absl::StatusOr<std::vector<std::int32_t>> AnnealDuals(
    std::int64_t size, double spread, const TransportSums& transport_sums) {
  // Costs per unit of a base-2 exponent.
  double temperature = std::max(1.0, spread / 4);
  std::vector<float> duals(static_cast<std::size_t>(size), 0.0F);
  for (int level = 0; level < kTemperatures; ++level) {
    double error = 1;
    for (int pass = 0; pass < kPassesPerTemperature && error > kMarginError;
         ++pass) {
      MOESCOPE_ASSIGN_OR_RETURN(const std::vector<float> sums,
                                transport_sums(duals, temperature));
      error = MoveDuals(sums, duals);
    }
    temperature /= 2;
    for (float& dual : duals) {
      dual *= 2;
    }
  }
  constexpr double kMost = static_cast<double>(kMaxShift - 1);
  std::vector<std::int32_t> rounded;
  rounded.reserve(duals.size());
  for (const float dual : duals) {
    rounded.push_back(static_cast<std::int32_t>(std::clamp(
        std::nearbyint(static_cast<double>(dual) * temperature), -kMost,
        kMost)));
  }
  return rounded;
}

}  // namespace moescope::numerics::internal
