#include "server/numerics/assignment_costs_internal.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "moescope/base/status_macros.h"
#include "server/numerics/assignment_kernels_internal.h"

namespace moescope::numerics::internal {
namespace {

// Entries whose bound is looked at once.
constexpr std::int64_t kSection = 1024;
// Of the transport: temperatures fall by halves from a quarter of the spread;
// at each, passes until columns get about as much as they should. Steps are
// longer than Sinkhorn's by this factor, which converges sooner.
constexpr int kTemperatures = 13;
constexpr int kPassesPerTemperature = 4;
constexpr double kMarginError = 0.1;
constexpr float kStep = 1.6F;

// A candidate and where it is, ordered by value, then place.
using Key = std::int64_t;
Key MakeKey(std::int32_t value, std::int64_t place) {
  return std::int64_t{value} * (std::int64_t{1} << 32) + place;
}
std::int32_t ValueOf(Key key) { return static_cast<std::int32_t>(key >> 32); }
std::int64_t PlaceOf(Key key) { return key & 0xffffffff; }

// The `count` least keys of one line; looks at twice as many at a time.
class Best {
 public:
  Best(Key* keys, std::int64_t count) : keys_(keys), count_(count) {}

  // `scratch` has room for 2 count + kCollectPadding.
  void Add(Key key, Key* scratch) {
    keys_[size_++] = key;
    if (size_ == 2 * count_) {
      Shrink(scratch);
    }
  }
  void Shrink(Key* scratch) {
    if (size_ > count_) {
      bound_ = ValueOf(KeepLeast(keys_, size_, count_, scratch));
      size_ = count_;
    }
  }
  // What a further value must be below.
  std::int32_t bound() const { return bound_; }
  const Key* begin() const { return keys_; }
  const Key* end() const { return keys_ + size_; }

 private:
  Key* keys_;
  std::int64_t count_;
  std::int64_t size_ = 0;
  std::int32_t bound_ = std::numeric_limits<std::int32_t>::max();
};

// One pass that keeps the best of every row and column.
class CoreChooser {
 public:
  CoreChooser(std::int64_t size, std::int64_t count,
              const std::vector<std::int32_t>& row_shift,
              const std::vector<std::int32_t>& column_shift)
      : size_(size),
        row_shift_(row_shift),
        column_shift_(column_shift),
        row_keys_(static_cast<std::size_t>(2 * count)),
        column_keys_(static_cast<std::size_t>(2 * count * size)),
        scratch_(static_cast<std::size_t>(2 * count + kCollectPadding)),
        bounds_(static_cast<std::size_t>(size),
                std::numeric_limits<std::int32_t>::max()),
        found_(static_cast<std::size_t>(kSection + kCollectPadding)),
        wanted_(static_cast<std::size_t>(size), 0),
        count_(count) {
    for (std::int64_t j = 0; j < size; ++j) {
      columns_.emplace_back(column_keys_.data() + 2 * count * j, count);
    }
    core_.rows.resize(static_cast<std::size_t>(size));
  }

  void AddRow(std::int64_t i, const std::int32_t* row) {
    Best best(row_keys_.data(), count_);
    // Each row starts at its own place: where many entries are equal, rows
    // should not all keep the same columns.
    AddRange(i, row, i, size_, best);
    AddRange(i, row, 0, i, best);
    best.Shrink(scratch_.data());
    std::vector<Arc>& arcs = core_.rows[static_cast<std::size_t>(i)];
    arcs.reserve(static_cast<std::size_t>(2 * count_ + 2));
    for (const Key key : best) {
      const std::int64_t j = (PlaceOf(key) + i) % size_;
      wanted_[static_cast<std::size_t>(j)] = 1;
      arcs.push_back({static_cast<std::int32_t>(j), row[j]});
    }
    arcs.push_back({static_cast<std::int32_t>(i), row[i]});
  }

  Core Finish(const std::int32_t* costs) {
    core_.unwanted = std::count(wanted_.begin(), wanted_.end(), 0);
    std::fill(wanted_.begin(), wanted_.end(), 0);
    for (std::int64_t j = 0; j < size_; ++j) {
      Best& best = columns_[static_cast<std::size_t>(j)];
      best.Shrink(scratch_.data());
      for (const Key key : best) {
        const std::int64_t i = PlaceOf(key);
        wanted_[static_cast<std::size_t>(i)] = 1;
        core_.rows[static_cast<std::size_t>(i)].push_back(
            {static_cast<std::int32_t>(j), costs[i * size_ + j]});
      }
    }
      core_.unwanted = std::min<std::int64_t>(
        core_.unwanted, std::count(wanted_.begin(), wanted_.end(), 0));
    const auto before = [](const Arc& a, const Arc& b) {
      return a.column < b.column;
    };
    const auto same = [](const Arc& a, const Arc& b) {
      return a.column == b.column;
    };
    for (std::vector<Arc>& arcs : core_.rows) {
      std::sort(arcs.begin(), arcs.end(), before);
      arcs.erase(std::unique(arcs.begin(), arcs.end(), same), arcs.end());
    }
    return std::move(core_);
  }

 private:
  void AddRange(std::int64_t i, const std::int32_t* row, std::int64_t begin,
                std::int64_t end, Best& best) {
    const std::int32_t shift = row_shift_[static_cast<std::size_t>(i)];
    const std::int32_t* const shifts = column_shift_.data();
    for (std::int64_t j0 = begin; j0 < end; j0 += kSection) {
      const std::int64_t j1 = std::min(end, j0 + kSection);
      std::int64_t n = CollectBelow(row, shifts, j0, j1, best.bound(),
                                    found_.data());
      for (std::int64_t f = 0; f < n; ++f) {
        const std::int64_t j = found_[static_cast<std::size_t>(f)];
        const std::int32_t value = row[j] - shifts[j];
        if (value < best.bound()) {
          best.Add(MakeKey(value, j >= i ? j - i : j - i + size_),
                   scratch_.data());
        }
      }
      n = CollectBelowEach(row, shift, bounds_.data(), j0, j1, found_.data());
      for (std::int64_t f = 0; f < n; ++f) {
        const std::int64_t j = found_[static_cast<std::size_t>(f)];
        Best& column = columns_[static_cast<std::size_t>(j)];
        column.Add(MakeKey(row[j] - shift, i), scratch_.data());
        bounds_[static_cast<std::size_t>(j)] = column.bound();
      }
    }
  }

  const std::int64_t size_;
  const std::vector<std::int32_t>& row_shift_;
  const std::vector<std::int32_t>& column_shift_;
  std::vector<Key> row_keys_;
  std::vector<Key> column_keys_;  // [size, 2 count]
  std::vector<Key> scratch_;
  std::vector<Best> columns_;
  std::vector<std::int32_t> bounds_;
  std::vector<std::int32_t> found_;
  std::vector<char> wanted_;
  const std::int64_t count_;
  Core core_;
};

// The column duals in 32 bits, moved by `offset` into the middle of their
// range; empty when they do not fit.
struct NarrowDuals {
  std::vector<std::int32_t> column;
  std::int64_t offset = 0;
};

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

}  // namespace

absl::StatusOr<Core> MemoryCosts::ChooseCore(
    const std::vector<std::int32_t>& row_shift,
    const std::vector<std::int32_t>& column_shift, std::int64_t count,
    const RunContext& context) {
  CoreChooser chooser(size_, count, row_shift, column_shift);
  for (std::int64_t i = 0; i < size_; ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    chooser.AddRow(i, Row(i));
  }
  return chooser.Finish(costs_);
}

absl::StatusOr<std::vector<Violation>> MemoryCosts::FindViolations(
    const Duals& duals, std::int64_t count, const RunContext& context) {
  const NarrowDuals narrow = Narrow(duals.column);
  std::vector<std::int32_t> found(
      static_cast<std::size_t>(size_ + kCollectPadding));
  std::vector<Key> keys(static_cast<std::size_t>(2 * count));
  std::vector<Violation> violations;
  for (std::int64_t i = 0; i < size_; ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const std::int32_t* const row = Row(i);
    const std::int64_t dual = duals.row[static_cast<std::size_t>(i)];
    std::int64_t n = 0;
    if (narrow.column.empty()) {
      n = CollectBelowWide(row, duals.column.data(), 0, size_, dual,
                           found.data());
    } else {
      const std::int64_t bound = std::clamp<std::int64_t>(
          dual + narrow.offset, std::numeric_limits<std::int32_t>::min(),
          std::numeric_limits<std::int32_t>::max());
      n = CollectBelow(row, narrow.column.data(), 0, size_,
                       static_cast<std::int32_t>(bound), found.data());
    }
    if (n == 0) {
      continue;
    }
    const auto worse = [&](std::int32_t a, std::int32_t b) {
      const std::int64_t x = row[a] - duals.column[static_cast<std::size_t>(a)];
      const std::int64_t y = row[b] - duals.column[static_cast<std::size_t>(b)];
      return x < y || (x == y && a < b);
    };
    if (n > count) {
      std::nth_element(found.begin(), found.begin() + count,
                       found.begin() + n, worse);
    }
    violations.push_back({i, {}});
    for (std::int64_t f = 0; f < std::min(n, count); ++f) {
      const std::int32_t j = found[static_cast<std::size_t>(f)];
      violations.back().arcs.push_back({j, row[j]});
    }
  }
  return violations;
}

absl::StatusOr<std::vector<std::int64_t>> MemoryCosts::RowMinima(
    const std::vector<std::int64_t>& column_duals, const RunContext& context) {
  std::vector<std::int64_t> minima;
  minima.reserve(static_cast<std::size_t>(size_));
  for (std::int64_t i = 0; i < size_; ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    minima.push_back(LeastDifference(Row(i), column_duals.data(), size_));
  }
  return minima;
}

absl::StatusOr<std::vector<double>> MemoryCosts::RowSums(
    const std::vector<double>& x, const RunContext& context) {
  std::vector<double> sums;
  sums.reserve(x.size());
  for (std::int64_t i = 0; i < size_; ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    sums.push_back(DotCosts(Row(i), x.data(), size_));
  }
  return sums;
}

absl::StatusOr<std::vector<double>> MemoryCosts::ColumnSums(
    const std::vector<double>& x, const RunContext& context) {
  std::vector<double> sums(x.size(), 0.0);
  for (std::int64_t i = 0; i < size_; ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    AddCosts(Row(i), x[static_cast<std::size_t>(i)], size_, sums.data());
  }
  return sums;
}

absl::StatusOr<std::vector<std::int32_t>> MemoryCosts::TransportDuals(
    const RunContext& context) {
  const auto n = static_cast<std::size_t>(size_);
  std::int64_t least = std::numeric_limits<std::int32_t>::max();
  std::int64_t most = std::numeric_limits<std::int32_t>::min();
  for (std::int64_t i = 0; i < size_; ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const auto [low, high] = std::minmax_element(Row(i), Row(i) + size_);
    least = std::min<std::int64_t>(least, *low);
    most = std::max<std::int64_t>(most, *high);
  }
  // Costs per unit of a base-2 exponent.
  double temperature = std::max(1.0, static_cast<double>(most - least) / 4);
  std::vector<float> duals(n, 0.0F);
  std::vector<float> sums(n);
  std::vector<float> buffer(n);
  for (int level = 0; level < kTemperatures; ++level) {
    double error = 1;
    for (int pass = 0; pass < kPassesPerTemperature && error > kMarginError;
         ++pass) {
      std::fill(sums.begin(), sums.end(), 0.0F);
      for (std::int64_t i = 0; i < size_; ++i) {
        MOESCOPE_RETURN_IF_ERROR(context.Check());
        AddTransportRow(Row(i), duals.data(), size_,
                        static_cast<float>(-1 / temperature), buffer.data(),
                        sums.data());
      }
      error = MoveDuals(sums, duals);
    }
    temperature /= 2;
    for (float& dual : duals) {
      dual *= 2;
    }
  }
  constexpr double kMost = static_cast<double>(kMaxShift - 1);
  std::vector<std::int32_t> rounded;
  rounded.reserve(n);
  for (const float dual : duals) {
    rounded.push_back(static_cast<std::int32_t>(std::clamp(
        std::nearbyint(static_cast<double>(dual) * temperature), -kMost,
        kMost)));
  }
  return rounded;
}

}  // namespace moescope::numerics::internal
