// The sparse core that a matrix is solved on: the best few of every row and
// column. Minima of groups of entries bound these from above, so that a second
// look takes up little more than what is chosen.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "server/numerics/assignment_costs_internal.h"
#include "server/numerics/assignment_kernels_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::numerics::internal {
namespace {

constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
// Keys ranked by comparing all with all; of more, these are partly sorted.
constexpr std::int64_t kMostRanked = 64;
// Columns that a task looks at: narrow ones for many threads, but no shorter
// runs of memory than these.
constexpr std::int64_t kColumnTasks = 16;
constexpr std::int64_t kLeastColumns = 128;
constexpr std::int64_t kMostColumns = 2048;
// Equal entries are looked for in runs of this length.
constexpr std::int64_t kTieRun = 256;
constexpr std::int64_t kRowsPerCheck = 64;
constexpr std::int64_t kRowsAhead = 8;
constexpr std::int64_t kPerCacheLine = 64 / sizeof(std::int32_t);

// A candidate and where it is, ordered by value, then place.
using Key = std::int64_t;
Key MakeKey(std::int32_t value, std::int64_t place) {
  return std::int64_t{value} * (std::int64_t{1} << 32) + place;
}
std::int32_t ValueOf(Key key) { return static_cast<std::int32_t>(key >> 32); }
std::int64_t PlaceOf(Key key) { return key & 0xffffffff; }

// Spreads rows over the groups so that neither neighbours nor rows at a fixed
// distance, which may be alike, meet in one (Fibonacci hashing).
std::int64_t GroupOf(std::int64_t row) {
  static_assert(kBoundGroups == 32);
  return (static_cast<std::uint32_t>(row) * 2654435769U) >> 27;
}

bool ByColumn(const Arc& a, const Arc& b) { return a.column < b.column; }
bool SameColumn(const Arc& a, const Arc& b) { return a.column == b.column; }

// The best of one row.
class RowChooser {
 public:
  RowChooser(std::int64_t size, std::int64_t count)
      : size_(size),
        count_(count),
        found_(static_cast<std::size_t>(size + kCollectPadding)),
        scratch_(static_cast<std::size_t>(kMostRanked + kCollectPadding)) {}

  // At least count_ entries are at most `bound`, or it is kMost.
  std::vector<Arc> Choose(std::int64_t i, const std::int32_t* row,
                          const std::int32_t* shift, std::int32_t bound) {
    keys_.clear();
    const std::int64_t n =
        CollectBelow(row, shift, 0, size_, bound, found_.data());
    for (std::int64_t f = 0; f < n; ++f) {
      Append(i, row, shift, found_[static_cast<std::size_t>(f)]);
    }
    if (n > count_) {
      KeepBest();
    } else if (n < count_ && bound < kMost) {
      AppendEqual(i, row, shift, bound);
    }
    std::vector<Arc> arcs;
    // Room for those that columns choose, and the row's own.
    arcs.reserve(static_cast<std::size_t>(2 * count_ + 2));
    for (const Key key : keys_) {
      const std::int64_t place = PlaceOf(key) + i;
      const std::int64_t j = place < size_ ? place : place - size_;
      arcs.push_back({static_cast<std::int32_t>(j), row[j]});
    }
    std::sort(arcs.begin(), arcs.end(), ByColumn);
    return arcs;
  }

 private:
  // Each row starts at its own place: where many entries are equal, rows should
  // not all keep the same columns.
  void Append(std::int64_t i, const std::int32_t* row,
              const std::int32_t* shift, std::int64_t j) {
    keys_.push_back(
        MakeKey(row[j] - shift[j], j >= i ? j - i : j - i + size_));
  }

  void KeepBest() {
    const auto n = static_cast<std::int64_t>(keys_.size());
    if (n <= kMostRanked) {
      KeepLeast(keys_.data(), n, count_, scratch_.data());
    } else {
      std::nth_element(keys_.begin(), keys_.begin() + count_, keys_.end());
    }
    keys_.resize(static_cast<std::size_t>(count_));
  }

  void AppendEqual(std::int64_t i, const std::int32_t* row,
                   const std::int32_t* shift, std::int32_t bound) {
    AppendEqualOf(i, size_, i, row, shift, bound);
    AppendEqualOf(0, i, i, row, shift, bound);
  }

  void AppendEqualOf(std::int64_t begin, std::int64_t end, std::int64_t i,
                     const std::int32_t* row, const std::int32_t* shift,
                     std::int32_t bound) {
    for (std::int64_t j0 = begin; j0 < end; j0 += kTieRun) {
      const std::int64_t n = CollectBelow(
          row, shift, j0, std::min(end, j0 + kTieRun), bound + 1,
          found_.data());
      for (std::int64_t f = 0; f < n; ++f) {
        const std::int64_t j = found_[static_cast<std::size_t>(f)];
        if (static_cast<std::int64_t>(keys_.size()) == count_) {
          return;
        }
        if (row[j] - shift[j] == bound) {
          Append(i, row, shift, j);
        }
      }
    }
  }

  const std::int64_t size_;
  const std::int64_t count_;
  std::vector<std::int32_t> found_;
  std::vector<Key> keys_;
  std::vector<Key> scratch_;
};

// The least keys of a column; looks at twice as many as are kept.
class Best {
 public:
  Best(Key* keys, std::int64_t count, std::int32_t bound)
      : keys_(keys), count_(count), bound_(bound) {}

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
  std::int32_t bound_;
};

class CoreChooser {
 public:
  CoreChooser(const ShiftedCosts& shifted, std::int64_t count, ThreadPool& pool,
              const RunContext& context, CoreMemory& memory)
      : shifted_(shifted),
        size_(shifted.size),
        count_(count),
        pool_(pool),
        context_(context),
        memory_(memory) {
    memory_.minima.resize(static_cast<std::size_t>(kBoundGroups * size_));
    memory_.column_keys.resize(static_cast<std::size_t>(2 * count * size_));
    core_.rows.resize(static_cast<std::size_t>(size_));
    // No bound: of empty lists.
    columns_.assign(static_cast<std::size_t>(size_), Best(nullptr, 0, kMost));
  }

  absl::StatusOr<Core> Choose() {
    MOESCOPE_RETURN_IF_ERROR(pool_.ParallelFor(
        kBoundGroups, [&](std::int64_t group) { return ChooseRows(group); }));
    const std::int64_t width =
        std::clamp((size_ + kColumnTasks - 1) / kColumnTasks, kLeastColumns,
                   kMostColumns);
    MOESCOPE_RETURN_IF_ERROR(pool_.ParallelFor(
        (size_ + width - 1) / width, [&](std::int64_t task) {
          return ChooseColumns(task * width,
                               std::min(size_, (task + 1) * width));
        }));
    const std::int64_t unwanted_columns = CountUnwantedColumns();
    core_.unwanted = std::min(unwanted_columns, AppendColumnChoices());
    MOESCOPE_RETURN_IF_ERROR(pool_.ParallelFor(
        kBoundGroups, [&](std::int64_t block) { return Merge(block); }));
    return std::move(core_);
  }

 private:
  const std::int32_t* Row(std::int64_t i) const {
    return shifted_.costs + i * size_;
  }

  // The row of the group that follows `row`, or size_.
  std::int64_t NextOf(std::int64_t group, std::int64_t row) const {
    do {
      ++row;
    } while (row < size_ && GroupOf(row) != group);
    return row;
  }

  // The best of the rows of a group, and the group's least of each column.
  absl::Status ChooseRows(std::int64_t group) {
    std::int32_t* const minima = memory_.minima.data() + group * size_;
    std::fill_n(minima, size_, kMost);
    RowChooser chooser(size_, count_);
    std::int32_t group_least[kBoundGroups];
    const std::int32_t* const shift = shifted_.column_shift.data();
    for (std::int64_t i = NextOf(group, -1); i < size_;) {
      MOESCOPE_RETURN_IF_ERROR(context_.Check());
      const auto at = static_cast<std::size_t>(i);
      const std::int64_t next = NextOf(group, i);
      LowerMinima(Row(i), Row(next < size_ ? next : i), shifted_.row_shift[at], shift, size_, minima,
                  group_least);
      const std::int32_t bound =
          count_ <= kBoundGroups ? NthOfGroups(group_least, count_ - 1) : kMost;
      core_.rows[at] = chooser.Choose(i, Row(i), shift, bound);
      i = next;
    }
    return absl::OkStatus();
  }

  absl::Status ChooseColumns(std::int64_t begin, std::int64_t end) {
    std::vector<std::int32_t> bounds(static_cast<std::size_t>(end - begin),
                                     kMost);
    if (count_ <= kBoundGroups) {
      NthOfEachColumn(memory_.minima.data() + begin, size_, end - begin,
                      count_ - 1, bounds.data());
    }
    for (std::int64_t j = begin; j < end; ++j) {
      std::int32_t& bound = bounds[static_cast<std::size_t>(j - begin)];
      bound += bound < kMost ? 1 : 0;  // What is equal may be among the best.
      columns_[static_cast<std::size_t>(j)] =
          Best(memory_.column_keys.data() + 2 * count_ * j, count_, bound);
    }
    std::vector<Key> scratch(
        static_cast<std::size_t>(2 * count_ + kCollectPadding));
    std::vector<std::int32_t> found(
        static_cast<std::size_t>(end - begin + kCollectPadding));
    for (std::int64_t i = 0; i < size_; ++i) {
      if (i % kRowsPerCheck == 0) {
        MOESCOPE_RETURN_IF_ERROR(context_.Check());
      }
      const std::int32_t shift =
          shifted_.row_shift[static_cast<std::size_t>(i)];
      const std::int32_t* const row = Row(i) + begin;
      // Runs are too short for the processor to see the next ones coming.
      const std::int32_t* const coming =
          Row(std::min(i + kRowsAhead, size_ - 1)) + begin;
      for (std::int64_t j = 0; j < end - begin; j += kPerCacheLine) {
        __builtin_prefetch(coming + j);
      }
      const std::int64_t n = CollectBelowEach(row, shift, bounds.data(), 0,
                                              end - begin, found.data());
      for (std::int64_t f = 0; f < n; ++f) {
        const std::int64_t j = found[static_cast<std::size_t>(f)];
        Best& column = columns_[static_cast<std::size_t>(begin + j)];
        column.Add(MakeKey(row[j] - shift, i), scratch.data());
        bounds[static_cast<std::size_t>(j)] = column.bound();
      }
    }
    for (std::int64_t j = begin; j < end; ++j) {
      columns_[static_cast<std::size_t>(j)].Shrink(scratch.data());
    }
    return absl::OkStatus();
  }

  std::int64_t CountUnwantedColumns() const {
    std::vector<char> wanted(static_cast<std::size_t>(size_), 0);
    for (const std::vector<Arc>& arcs : core_.rows) {
      for (const Arc& arc : arcs) {
        wanted[static_cast<std::size_t>(arc.column)] = 1;
      }
    }
    return std::count(wanted.begin(), wanted.end(), 0);
  }

  // Puts what columns have chosen behind what rows have, columns rising; returns
  // how many rows no column has chosen.
  std::int64_t AppendColumnChoices() {
    row_choices_.reserve(static_cast<std::size_t>(size_));
    for (const std::vector<Arc>& arcs : core_.rows) {
      row_choices_.push_back(static_cast<std::ptrdiff_t>(arcs.size()));
    }
    std::vector<char> wanted(static_cast<std::size_t>(size_), 0);
    for (std::size_t j = 0; j < columns_.size(); ++j) {
      for (const Key key : columns_[j]) {
        const auto i = static_cast<std::size_t>(PlaceOf(key));
        wanted[i] = 1;
        core_.rows[i].push_back({static_cast<std::int32_t>(j),
                                 ValueOf(key) + shifted_.row_shift[i]});
      }
    }
    return std::count(wanted.begin(), wanted.end(), 0);
  }

  // Makes one list of what rows and columns have chosen, and of (i, i).
  absl::Status Merge(std::int64_t block) {
    std::vector<Arc> merged;
    for (std::int64_t i = block * size_ / kBoundGroups;
         i < (block + 1) * size_ / kBoundGroups; ++i) {
      std::vector<Arc>& arcs = core_.rows[static_cast<std::size_t>(i)];
      const auto middle =
          arcs.begin() + row_choices_[static_cast<std::size_t>(i)];
      merged.resize(arcs.size());
      std::merge(arcs.begin(), middle, middle, arcs.end(), merged.begin(),
                 ByColumn);
      arcs.assign(merged.begin(),
                  std::unique(merged.begin(), merged.end(), SameColumn));
      const Arc own = {static_cast<std::int32_t>(i), Row(i)[i]};
      const auto at = std::lower_bound(arcs.begin(), arcs.end(), own, ByColumn);
      if (at == arcs.end() || at->column != own.column) {
        arcs.insert(at, own);
      }
    }
    return context_.Check();
  }

  const ShiftedCosts& shifted_;
  const std::int64_t size_;
  const std::int64_t count_;
  ThreadPool& pool_;
  const RunContext& context_;
  CoreMemory& memory_;
  Core core_;
  std::vector<Best> columns_;
  std::vector<std::ptrdiff_t> row_choices_;
};

}  // namespace

absl::StatusOr<Core> ChooseCore(const ShiftedCosts& shifted, std::int64_t count,
                                ThreadPool& pool, const RunContext& context,
                                CoreMemory& memory) {
  return CoreChooser(shifted, count, pool, context, memory).Choose();
}

}  // namespace moescope::numerics::internal
