#include "server/numerics/assignment_solver_internal.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <utility>

#include "moescope/base/status_macros.h"
#include "server/numerics/assignment_kernels_internal.h"
#include "server/numerics/sorted_duals_internal.h"

namespace moescope::numerics::internal {
namespace {

constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
constexpr std::int32_t kNone = -1;
// Settled columns between two looks at cancellation: well below a millisecond
// on a core, a few on whole rows.
constexpr std::int64_t kSettledPerCheck = 1024;
constexpr std::int64_t kDenseSettledPerCheck = 64;
// Steps of the first assignment by rows' own choice, per row.
constexpr std::int64_t kChoicesPerRow = 4;

// A column and its part in the search that runs.
struct Column {
  std::int64_t dual = 0;
  std::int64_t distance = 0;
  std::int32_t row = kNone;       // matched
  std::int32_t previous = kNone;  // row from which it is reached
  std::int64_t seen = 0;          // 2 · search, + 1 when settled
};

class Solver {
 public:
  Solver(CostSource& costs, const SolverOptions& options,
         const RunContext& context)
      : costs_(costs),
        options_(options),
        context_(context),
        n_(static_cast<std::size_t>(costs.size())),
        row_dual_(n_, 0),
        column_of_(n_, kNone),
        columns_(n_) {}

  absl::StatusOr<Solution> Solve() {
    if (n_ == 0) {
      return Solution();
    }
    const std::vector<std::int32_t> zero(n_, 0);
    MOESCOPE_ASSIGN_OR_RETURN(
        Core core,
        costs_.ChooseCore(zero, zero, options_.core_per_line, context_));
    bool solved = false;
    if (static_cast<double>(core.unwanted) <
        options_.hard_share * static_cast<double>(n_)) {
      arcs_ = std::move(core.rows);
      MOESCOPE_RETURN_IF_ERROR(Start(zero));
      MOESCOPE_ASSIGN_OR_RETURN(solved, RunRounds(options_.max_rounds, options_.give_up_share));
    }
    if (!solved) {
      MOESCOPE_RETURN_IF_ERROR(StartFromBetterDuals());
      MOESCOPE_ASSIGN_OR_RETURN(
          solved, RunRounds(options_.max_rounds_after_transport, 2));
    }
    if (!solved) {
      MOESCOPE_RETURN_IF_ERROR(FinishDense());
    }
    // What the last pass could no longer see.
    MOESCOPE_RETURN_IF_ERROR(context_.Check());
    return Finish();
  }

 private:
  Column& column(std::int32_t j) {
    return columns_[static_cast<std::size_t>(j)];
  }

  Duals CopyDuals() const {
    Duals duals;
    duals.row = row_dual_;
    duals.column.reserve(n_);
    for (const Column& column : columns_) {
      duals.column.push_back(column.dual);
    }
    return duals;
  }

  // From those of a matrix that sorting solves, if it is one; else from
  // transport.
  absl::Status StartFromBetterDuals() {
    MOESCOPE_ASSIGN_OR_RETURN(std::vector<std::int32_t> column_shift,
                              SortedDuals(costs_, context_));
    if (column_shift.empty()) {
      effort_.transport = true;
      MOESCOPE_ASSIGN_OR_RETURN(column_shift, costs_.TransportDuals(context_));
    }
    const std::vector<std::int64_t> wide(column_shift.begin(),
                                         column_shift.end());
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> minima,
                              costs_.RowMinima(wide, context_));
    std::vector<std::int32_t> row_shift;
    row_shift.reserve(n_);
    for (const std::int64_t least : minima) {
      row_shift.push_back(static_cast<std::int32_t>(
          std::clamp(least, 1 - kMaxShift, kMaxShift - 1)));
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        Core core, costs_.ChooseCore(row_shift, column_shift,
                                     options_.core_per_line, context_));
    arcs_ = std::move(core.rows);
    return Start(row_shift);
  }

  // Column duals as large as the rows' allow, then rows choose in turn.
  absl::Status Start(const std::vector<std::int32_t>& row_shift) {
    std::fill(column_of_.begin(), column_of_.end(), kNone);
    for (Column& column : columns_) {
      column = Column();
      column.dual = kFar;
    }
    search_ = 0;
    for (std::size_t i = 0; i < n_; ++i) {
      for (const Arc& arc : arcs_[i]) {
        std::int64_t& dual = column(arc.column).dual;
        dual = std::min<std::int64_t>(dual, arc.cost - row_shift[i]);
      }
    }
    MOESCOPE_RETURN_IF_ERROR(context_.Check());
    ChooseInTurn();
    Tighten();
    return absl::OkStatus();
  }

  struct Choice {
    std::int64_t least = kFar;
    std::int64_t second = kFar;
    std::int32_t best = kNone;
    std::int32_t next = kNone;
  };

  Choice ChoiceOf(std::size_t i) {
    Choice choice;
    for (const Arc& arc : arcs_[i]) {
      const std::int64_t value = arc.cost - column(arc.column).dual;
      if (value < choice.least) {
        choice.second = std::exchange(choice.least, value);
        choice.next = std::exchange(choice.best, arc.column);
      } else if (value < choice.second) {
        choice.second = value;
        choice.next = arc.column;
      }
    }
    return choice;
  }

  // Augmenting row reduction: a row takes its best column and lowers that
  // column's dual to where its second best is as good; who had it chooses
  // again.
  void ChooseInTurn() {
    std::vector<std::int32_t> waiting(n_);
    for (std::size_t i = 0; i < n_; ++i) {
      waiting[i] = static_cast<std::int32_t>(n_ - 1 - i);
    }
    auto left = kChoicesPerRow * static_cast<std::int64_t>(n_);
    for (; !waiting.empty() && left > 0; --left) {
      const std::int32_t i = waiting.back();
      waiting.pop_back();
      const Choice choice = ChoiceOf(static_cast<std::size_t>(i));
      std::int32_t taken = choice.best;
      if (choice.next == kNone) {
        // One arc alone says nothing about a price.
      } else if (choice.least < choice.second) {
        column(taken).dual -= choice.second - choice.least;
      } else if (column(taken).row != kNone) {
        taken = choice.next;
      }
      const std::int32_t former = column(taken).row;
      if (former != kNone) {
        if (choice.next == kNone || choice.least == choice.second) {
          continue;  // Would go in circles: left to the searches.
        }
        column_of_[static_cast<std::size_t>(former)] = kNone;
        waiting.push_back(former);
      }
      column_of_[static_cast<std::size_t>(i)] = taken;
      column(taken).row = i;
    }
  }

  // Row duals as large as the columns' allow; matches that are not tight then
  // are undone.
  void Tighten() {
    for (std::size_t i = 0; i < n_; ++i) {
      std::int64_t matched = kFar;
      std::int64_t least = kFar;
      for (const Arc& arc : arcs_[i]) {
        const std::int64_t value = arc.cost - column(arc.column).dual;
        least = std::min(least, value);
        if (arc.column == column_of_[i]) {
          matched = value;
        }
      }
      row_dual_[i] = least;
      if (matched != least) {
        Unmatch(i);
      }
    }
  }

  void Unmatch(std::size_t i) {
    if (column_of_[i] != kNone) {
      column(column_of_[i]).row = kNone;
      column_of_[i] = kNone;
    }
  }

  // Searches and pricing in turn; whether no entry is left uncovered. Gives up
  // after `most` rounds, and when more than `share` of the rows have such.
  absl::StatusOr<bool> RunRounds(int most, double share) {
    for (int round = 0; round < most; ++round) {
      ++effort_.rounds;
      for (std::size_t i = 0; i < n_; ++i) {
        if (column_of_[i] == kNone) {
          MOESCOPE_RETURN_IF_ERROR(Augment(static_cast<std::int32_t>(i)));
        }
      }
      MOESCOPE_ASSIGN_OR_RETURN(
          const std::vector<Violation> violations,
          costs_.FindViolations(CopyDuals(), options_.arcs_per_violation,
                                context_));
      if (violations.empty()) {
        return true;
      }
      if (static_cast<double>(violations.size()) >
          share * static_cast<double>(n_)) {
        return false;
      }
      for (const Violation& violation : violations) {
        const auto i = static_cast<std::size_t>(violation.row);
        Unmatch(i);
        for (const Arc& arc : violation.arcs) {
          arcs_[i].push_back(arc);
          row_dual_[i] =
              std::min(row_dual_[i], arc.cost - column(arc.column).dual);
        }
      }
    }
    return false;
  }

  // One shortest path from free row `source` to a free column, over the core.
  absl::Status Augment(std::int32_t source) {
    ++effort_.searches;
    ++search_;
    heap_.clear();
    ready_.clear();
    settled_.clear();
    std::int32_t i = source;
    std::int64_t base = 0;
    std::int64_t nearest_free = kFar;
    std::int32_t end = kNone;
    while (true) {
      end = Relax(i, base, nearest_free);
      if (end != kNone) {
        break;
      }
      const std::int32_t j = Next();
      // Every row has an arc to its own column: a free one is always reached.
      Column& reached = column(j);
      base = reached.distance;
      if (reached.row == kNone) {
        end = j;
        break;
      }
      settled_.push_back(j);
      i = reached.row;
      if (++effort_.settled % kSettledPerCheck == 0) {
        MOESCOPE_RETURN_IF_ERROR(context_.Check());
      }
    }
    UpdateDuals(source, base);
    Flip(source, end);
    return absl::OkStatus();
  }

  // Offers the columns of row i at distance `base`. A free column at that very
  // distance ends the search: it is returned.
  std::int32_t Relax(std::int32_t i, std::int64_t base,
                     std::int64_t& nearest_free) {
    const std::int64_t shift = base - row_dual_[static_cast<std::size_t>(i)];
    for (const Arc& arc : arcs_[static_cast<std::size_t>(i)]) {
      Column& reached = column(arc.column);
      const std::int64_t distance = shift + arc.cost - reached.dual;
      if (distance >= nearest_free || reached.seen > 2 * search_ ||
          (reached.seen == 2 * search_ && distance >= reached.distance)) {
        continue;
      }
      reached.seen = 2 * search_;
      reached.distance = distance;
      reached.previous = i;
      if (reached.row == kNone) {
        nearest_free = distance;
        if (distance == base) {
          return arc.column;
        }
      }
      if (distance == base) {
        reached.seen = 2 * search_ + 1;
        ready_.push_back(arc.column);
      } else {
        heap_.emplace_back(distance, arc.column);
        std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
      }
    }
    return kNone;
  }

  // The nearest column that is not settled, settled now.
  std::int32_t Next() {
    if (!ready_.empty()) {
      const std::int32_t j = ready_.back();
      ready_.pop_back();
      return j;
    }
    while (true) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const auto [distance, j] = heap_.back();
      heap_.pop_back();
      Column& reached = column(j);
      if (reached.seen == 2 * search_ && reached.distance == distance) {
        reached.seen = 2 * search_ + 1;
        return j;
      }
    }
  }

  void UpdateDuals(std::int32_t source, std::int64_t length) {
    row_dual_[static_cast<std::size_t>(source)] += length;
    for (const std::int32_t j : settled_) {
      Column& passed = column(j);
      const std::int64_t change = length - passed.distance;
      passed.dual -= change;
      row_dual_[static_cast<std::size_t>(passed.row)] += change;
    }
  }

  void Flip(std::int32_t source, std::int32_t end) {
    std::int32_t j = end;
    while (true) {
      const std::int32_t i = column(j).previous;
      column(j).row = i;
      std::swap(j, column_of_[static_cast<std::size_t>(i)]);
      if (i == source) {
        return;
      }
    }
  }

  // Exact whatever the matrix, at F² steps a search.
  absl::Status FinishDense() {
    effort_.dense = true;
    MOESCOPE_RETURN_IF_ERROR(costs_.BringRowsNear(context_));
    Duals duals = CopyDuals();
    MOESCOPE_ASSIGN_OR_RETURN(row_dual_,
                              costs_.RowMinima(duals.column, context_));
    for (std::size_t i = 0; i < n_; ++i) {
      if (column_of_[i] != kNone &&
          costs_.Row(static_cast<std::int64_t>(i))[column_of_[i]] -
                  column(column_of_[i]).dual !=
              row_dual_[i]) {
        Unmatch(i);
      }
    }
    for (std::size_t i = 0; i < n_; ++i) {
      if (column_of_[i] == kNone) {
        // A search that settles nothing is a reading of a row all the same.
        MOESCOPE_RETURN_IF_ERROR(context_.Check());
        MOESCOPE_RETURN_IF_ERROR(
            AugmentDense(static_cast<std::int32_t>(i), duals.column));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AugmentDense(std::int32_t source,
                            std::vector<std::int64_t>& column_dual) {
    ++effort_.searches;
    closed_.assign(n_, 0);
    distance_.assign(n_, kFar);
    previous_.assign(n_, kNone);
    settled_.clear();
    const DenseSearch search = {static_cast<std::int64_t>(n_),
                                column_dual.data(), closed_.data(),
                                distance_.data(), previous_.data()};
    std::int32_t i = source;
    std::int64_t base = 0;
    std::int32_t end = kNone;
    while (true) {
      const std::int64_t nearest =
          RelaxAll(costs_.Row(i), base - row_dual_[static_cast<std::size_t>(i)],
                   i, search);
      const auto at = static_cast<std::size_t>(nearest);
      base = distance_[at];
      columns_[at].distance = base;
      end = static_cast<std::int32_t>(nearest);
      if (columns_[at].row == kNone) {
        break;
      }
      closed_[at] = -1;
      settled_.push_back(end);
      i = columns_[at].row;
      if (++effort_.settled % kDenseSettledPerCheck == 0) {
        MOESCOPE_RETURN_IF_ERROR(context_.Check());
      }
    }
    UpdateDuals(source, base);
    for (const std::int32_t j : settled_) {
      column_dual[static_cast<std::size_t>(j)] = column(j).dual;
    }
    for (std::size_t j = 0; j < n_; ++j) {
      columns_[j].previous = static_cast<std::int32_t>(previous_[j]);
    }
    Flip(source, end);
    return absl::OkStatus();
  }

  Solution Finish() {
    Solution solution;
    solution.duals = CopyDuals();
    solution.column_of_row = std::move(column_of_);
    solution.effort = effort_;
    return solution;
  }

  CostSource& costs_;
  const SolverOptions options_;
  const RunContext& context_;
  const std::size_t n_;
  std::vector<std::vector<Arc>> arcs_;
  std::vector<std::int64_t> row_dual_;
  std::vector<std::int32_t> column_of_;
  std::vector<Column> columns_;
  SolverEffort effort_;
  // Of the search that runs.
  std::int64_t search_ = 0;
  std::vector<std::pair<std::int64_t, std::int32_t>> heap_;
  std::vector<std::int32_t> ready_;
  std::vector<std::int32_t> settled_;
  std::vector<std::int64_t> closed_;
  std::vector<std::int64_t> distance_;
  std::vector<std::int64_t> previous_;
};

}  // namespace

absl::StatusOr<Solution> SolveCosts(CostSource& costs,
                                    const SolverOptions& options,
                                    const RunContext& context) {
  return Solver(costs, options, context).Solve();
}

}  // namespace moescope::numerics::internal
