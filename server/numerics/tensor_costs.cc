// Passes over a cost matrix on a device, in operations of torch's on blocks of
// rows or columns. Candidates are 64-bit keys, value first and place second, so
// that what is best never depends on how a device breaks ties.
#include "server/numerics/tensor_costs_internal.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "moescope/base/status_macros.h"
#include "server/numerics/tensor_copies_internal.h"

namespace moescope::numerics::internal {
namespace {

// A key is value · 2^32 + place.
constexpr std::int64_t kKeyScale = std::int64_t{1} << 32;
// Lines of a core that are put together between two looks at cancellation.
constexpr std::int64_t kLinesPerCheck = 256;

std::int64_t ValueOf(std::int64_t key) { return key >> 32; }
std::int64_t PlaceOf(std::int64_t key) { return key & (kKeyScale - 1); }

bool ByColumn(const Arc& a, const Arc& b) { return a.column < b.column; }
bool SameColumn(const Arc& a, const Arc& b) { return a.column == b.column; }

void Append(const std::vector<std::int64_t>& more,
            std::vector<std::int64_t>& all) {
  all.insert(all.end(), more.begin(), more.end());
}

// [lines, count], in no order
at::Tensor Least(const at::Tensor& keys, std::int64_t count) {
  return std::get<0>(at::topk(keys, std::min(count, keys.size(1)), 1,
                              /*largest=*/false, /*sorted=*/false));
}

// What rows and columns have chosen, made one list per row.
class CoreMerger {
 public:
  // Keys of rows: the place is the column's distance from the row's own one,
  // going round; of columns: the row.
  CoreMerger(const std::vector<std::int64_t>& of_rows,
             const std::vector<std::int64_t>& of_columns,
             const std::vector<std::int32_t>& row_shift,
             const std::vector<std::int32_t>& column_shift)
      : of_rows_(of_rows),
        of_columns_(of_columns),
        row_shift_(row_shift),
        column_shift_(column_shift),
        size_(static_cast<std::int64_t>(row_shift.size())),
        count_(static_cast<std::int64_t>(of_rows.size()) / size_) {}

  // `own` are the costs of (i, i).
  absl::StatusOr<Core> Merge(const std::vector<std::int32_t>& own,
                             const RunContext& context) {
    core_.rows.resize(own.size());
    std::vector<char> wanted(own.size(), 0);
    for (std::int64_t i = 0; i < size_; ++i) {
      const auto at = static_cast<std::size_t>(i);
      core_.rows[at].reserve(static_cast<std::size_t>(2 * count_ + 2));
      core_.rows[at].push_back({static_cast<std::int32_t>(i), own[at]});
      for (std::int64_t k = i * count_; k < (i + 1) * count_; ++k) {
        wanted[AddOfRow(i, of_rows_[static_cast<std::size_t>(k)])] = 1;
      }
    }
    const auto unwanted_columns = std::count(wanted.begin(), wanted.end(), 0);
    std::fill(wanted.begin(), wanted.end(), 0);
    for (std::int64_t j = 0; j < size_; ++j) {
      for (std::int64_t k = j * count_; k < (j + 1) * count_; ++k) {
        wanted[AddOfColumn(j, of_columns_[static_cast<std::size_t>(k)])] = 1;
      }
    }
    core_.unwanted = std::min(unwanted_columns,
                              std::count(wanted.begin(), wanted.end(), 0));
    for (std::int64_t i = 0; i < size_; ++i) {
      if (i % kLinesPerCheck == 0) {
        MOESCOPE_RETURN_IF_ERROR(context.Check());
      }
      SortAndThin(core_.rows[static_cast<std::size_t>(i)]);
    }
    return std::move(core_);
  }

 private:
  // Returns the column.
  std::size_t AddOfRow(std::int64_t i, std::int64_t key) {
    const std::int64_t place = PlaceOf(key) + i;
    const auto j =
        static_cast<std::size_t>(place < size_ ? place : place - size_);
    core_.rows[static_cast<std::size_t>(i)].push_back(
        {static_cast<std::int32_t>(j),
         static_cast<std::int32_t>(ValueOf(key) + column_shift_[j])});
    return j;
  }

  // Returns the row.
  std::size_t AddOfColumn(std::int64_t j, std::int64_t key) {
    const auto i = static_cast<std::size_t>(PlaceOf(key));
    core_.rows[i].push_back(
        {static_cast<std::int32_t>(j),
         static_cast<std::int32_t>(ValueOf(key) + row_shift_[i])});
    return i;
  }

  static void SortAndThin(std::vector<Arc>& arcs) {
    std::sort(arcs.begin(), arcs.end(), ByColumn);
    arcs.erase(std::unique(arcs.begin(), arcs.end(), SameColumn), arcs.end());
  }

  const std::vector<std::int64_t>& of_rows_;
  const std::vector<std::int64_t>& of_columns_;
  const std::vector<std::int32_t>& row_shift_;
  const std::vector<std::int32_t>& column_shift_;
  const std::int64_t size_;
  const std::int64_t count_;
  Core core_;
};

}  // namespace

TensorCosts::TensorCosts(at::Tensor costs, std::int64_t block_entries)
    : costs_(std::move(costs)),
      size_(costs_.size(0)),
      block_lines_(std::max<std::int64_t>(
          1, block_entries / std::max<std::int64_t>(1, size_))) {}

absl::Status TensorCosts::ForBlocks(
    std::int64_t lines, const RunContext& context,
    const std::function<void(std::int64_t first, std::int64_t count)>& body)
    const {
  for (std::int64_t first = 0; first < lines; first += block_lines_) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    body(first, std::min(block_lines_, lines - first));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::int64_t>> TensorCosts::BestOfRows(
    const std::vector<std::int32_t>& column_shift, std::int64_t count,
    const RunContext& context) const {
  const at::TensorOptions longs = costs_.options().dtype(at::kLong);
  const at::Tensor shift = ToDevice(column_shift, costs_.device());
  const at::Tensor columns = at::arange(size_, longs);
  std::vector<std::int64_t> best;
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      size_, context, [&](std::int64_t first, std::int64_t lines) {
        // The column's distance from the row's own one: negative to its left,
        // where it goes round.
        const at::Tensor rows =
            at::arange(first, first + lines, longs).unsqueeze(1);
        at::Tensor keys = Rows(first, lines).to(at::kLong);
        keys.sub_(shift).mul_(kKeyScale).add_(columns).sub_(rows);
        keys.add_(at::lt(columns, rows), size_);
        Append(ToHost<std::int64_t>(Least(keys, count)), best);
      }));
  return best;
}

absl::StatusOr<std::vector<std::int64_t>> TensorCosts::BestOfColumns(
    const std::vector<std::int32_t>& row_shift, std::int64_t count,
    const RunContext& context) const {
  const at::TensorOptions longs = costs_.options().dtype(at::kLong);
  const at::Tensor shift = ToDevice(row_shift, costs_.device());
  const at::Tensor rows = at::arange(size_, longs);
  std::vector<std::int64_t> best;
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      size_, context, [&](std::int64_t first, std::int64_t lines) {
        at::Tensor keys = at::empty({lines, size_}, longs);
        keys.copy_(costs_.narrow(1, first, lines).t());
        keys.sub_(shift).mul_(kKeyScale).add_(rows);
        Append(ToHost<std::int64_t>(Least(keys, count)), best);
      }));
  return best;
}

absl::StatusOr<Core> TensorCosts::ChooseCore(
    const std::vector<std::int32_t>& row_shift,
    const std::vector<std::int32_t>& column_shift, std::int64_t count,
    const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> of_rows,
                            BestOfRows(column_shift, count, context));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> of_columns,
                            BestOfColumns(row_shift, count, context));
  return CoreMerger(of_rows, of_columns, row_shift, column_shift)
      .Merge(ToHost<std::int32_t>(costs_.diagonal()), context);
}

absl::StatusOr<std::vector<std::int64_t>> TensorCosts::RowMinima(
    const std::vector<std::int64_t>& column_duals, const RunContext& context) {
  // In 32 bits where no difference overflows, at half the traffic.
  const NarrowDuals narrow = Narrow(column_duals);
  const bool fits = !narrow.column.empty();
  const at::Tensor duals = fits ? ToDevice(narrow.column, costs_.device())
                                : ToDevice(column_duals, costs_.device());
  std::vector<at::Tensor> minima;
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      size_, context, [&](std::int64_t first, std::int64_t lines) {
        minima.push_back(at::amin(Rows(first, lines).sub(duals), 1));
      }));
  const at::Tensor least = at::cat(minima).to(at::kLong);
  return ToHost<std::int64_t>(fits ? least - narrow.offset : least);
}

void TensorCosts::AppendViolations(const std::vector<std::int64_t>& rows,
                                   const Duals& duals, std::int64_t count,
                                   std::vector<Violation>& violations) const {
  const at::Device device = costs_.device();
  std::vector<std::int64_t> row_duals;
  for (const std::int64_t row : rows) {
    row_duals.push_back(duals.row[static_cast<std::size_t>(row)]);
  }
  // Duals of size 2^31 F, the most that searches make, have room in a key up to
  // F = 2^15; beyond that the worst entries of a row may count as alike.
  const std::int64_t most =
      std::numeric_limits<std::int64_t>::max() / 2 / size_;
  const at::Tensor places = ToDevice(rows, device);
  at::Tensor keys = costs_.index_select(0, places).to(at::kLong);
  keys.sub_(ToDevice(duals.column, device))
      .sub_(ToDevice(row_duals, device).unsqueeze(1))
      .clamp_(-most, most)
      .mul_(size_)
      .add_(at::arange(size_, keys.options()));
  const at::Tensor worst = Least(keys, count);
  const at::Tensor columns = at::remainder(worst, size_);
  const at::Tensor costs =
      costs_.index({places.unsqueeze(1), columns}).to(at::kLong);
  // Of each candidate [lines, kept, 2] the column, −1 if it is covered, and the
  // cost.
  const auto found = ToHost<std::int64_t>(
      at::stack({columns.masked_fill(worst.ge(0), -1), costs}, 2));
  const std::size_t kept = found.size() / rows.size();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    violations.push_back({rows[r], {}});
    std::vector<Arc>& arcs = violations.back().arcs;
    for (std::size_t at = r * kept; at < (r + 1) * kept; at += 2) {
      if (found[at] >= 0) {
        arcs.push_back({static_cast<std::int32_t>(found[at]),
                        static_cast<std::int32_t>(found[at + 1])});
      }
    }
    std::sort(arcs.begin(), arcs.end(), ByColumn);
  }
}

absl::StatusOr<std::vector<Violation>> TensorCosts::FindViolations(
    const Duals& duals, std::int64_t count, const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> minima,
                            TensorCosts::RowMinima(duals.column, context));
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < minima.size(); ++i) {
    if (minima[i] < duals.row[i]) {
      rows.push_back(static_cast<std::int64_t>(i));
    }
  }
  std::vector<Violation> violations;
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      static_cast<std::int64_t>(rows.size()), context,
      [&](std::int64_t first, std::int64_t lines) {
        AppendViolations({rows.begin() + first, rows.begin() + first + lines},
                         duals, count, violations);
      }));
  return violations;
}

absl::StatusOr<std::vector<double>> TensorCosts::RowSums(
    const std::vector<double>& x, const RunContext& context) {
  const at::Tensor factors = ToDevice(x, costs_.device());
  std::vector<at::Tensor> sums;
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      size_, context, [&](std::int64_t first, std::int64_t lines) {
        sums.push_back(at::mv(Rows(first, lines).to(at::kDouble), factors));
      }));
  return ToHost<double>(at::cat(sums));
}

absl::StatusOr<std::vector<double>> TensorCosts::ColumnSums(
    const std::vector<double>& x, const RunContext& context) {
  const at::Tensor factors = ToDevice(x, costs_.device());
  at::Tensor sums = at::zeros_like(factors);
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      size_, context, [&](std::int64_t first, std::int64_t lines) {
        sums.addmv_(Rows(first, lines).to(at::kDouble).t(),
                    factors.narrow(0, first, lines));
      }));
  return ToHost<double>(sums);
}

absl::StatusOr<double> TensorCosts::Spread(const RunContext& context) const {
  std::vector<at::Tensor> ends;
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      size_, context, [&](std::int64_t first, std::int64_t lines) {
        const at::Tensor rows = Rows(first, lines);
        ends.push_back(at::stack({at::amin(rows), at::amax(rows)}));
      }));
  const at::Tensor all = at::stack(ends).to(at::kDouble);
  return (all.select(1, 1).amax() - all.select(1, 0).amin()).item<double>();
}

absl::StatusOr<std::vector<float>> TensorCosts::SumTransport(
    const std::vector<float>& duals, double temperature,
    const RunContext& context) const {
  // 2^x = e^(x ln 2).
  const double scale = std::log(2.0);
  const at::Tensor shift = ToDevice(duals, costs_.device()).mul(scale);
  at::Tensor sums = at::zeros_like(shift);
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      size_, context, [&](std::int64_t first, std::int64_t lines) {
        const at::Tensor exponents =
            at::add(shift, Rows(first, lines), -scale / temperature);
        sums.add_(at::softmax(exponents, 1).sum(0));
      }));
  return ToHost<float>(sums);
}

absl::StatusOr<std::vector<std::int32_t>> TensorCosts::TransportDuals(
    const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(const double spread, Spread(context));
  return AnnealDuals(size_, spread,
                     [&](const std::vector<float>& duals, double temperature) {
                       return SumTransport(duals, temperature, context);
                     });
}

std::vector<std::int32_t> TensorCosts::Entries(
    const std::vector<std::int64_t>& rows,
    const std::vector<std::int64_t>& columns) {
  if (rows.empty()) {
    return {};
  }
  const at::Device device = costs_.device();
  return ToHost<std::int32_t>(
      costs_.index({ToDevice(rows, device), ToDevice(columns, device)}));
}

const std::int32_t* TensorCosts::Row(std::int64_t row) {
  if (near_.defined()) {
    return near_.data_ptr<std::int32_t>() + row * size_;
  }
  row_ = costs_.select(0, row).to(at::kCPU);
  return row_.data_ptr<std::int32_t>();
}

absl::Status TensorCosts::BringRowsNear(const RunContext& context) {
  if (near_.defined()) {
    return absl::OkStatus();
  }
  at::Tensor near =
      at::empty({size_, size_}, at::TensorOptions().dtype(at::kInt));
  MOESCOPE_RETURN_IF_ERROR(ForBlocks(
      size_, context, [&](std::int64_t first, std::int64_t lines) {
        near.narrow(0, first, lines).copy_(Rows(first, lines));
      }));
  near_ = std::move(near);
  return absl::OkStatus();
}

}  // namespace moescope::numerics::internal
