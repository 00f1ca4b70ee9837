#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "server/numerics/assignment_costs_internal.h"

#include "moescope/base/run_context.h"

namespace moescope::numerics {

/// Costs, of a kind of CostSource, whose user cancels the work when they are asked
/// for the k-th pass, in the middle of what the solver does.
template <class Costs>
class CancellingCosts : public Costs {
 public:
  /// `arguments`: those of Costs.
  template <class... Arguments>
  CancellingCosts(std::int64_t call, const RunContext& context,
                  Arguments&&... arguments)
      : Costs(std::forward<Arguments>(arguments)...),
        call_(call),
        context_(context) {}

  std::int64_t calls() const { return calls_; }

  absl::StatusOr<internal::Core> ChooseCore(
      const std::vector<std::int32_t>& row_shift,
      const std::vector<std::int32_t>& column_shift, std::int64_t count,
      const RunContext& context) override {
    Count();
    return Costs::ChooseCore(row_shift, column_shift, count, context);
  }
  absl::StatusOr<std::vector<internal::Violation>> FindViolations(
      const internal::Duals& duals, std::int64_t count,
      const RunContext& context) override {
    Count();
    return Costs::FindViolations(duals, count, context);
  }
  absl::StatusOr<std::vector<std::int64_t>> RowMinima(
      const std::vector<std::int64_t>& column_duals,
      const RunContext& context) override {
    Count();
    return Costs::RowMinima(column_duals, context);
  }
  absl::StatusOr<std::vector<double>> RowSums(
      const std::vector<double>& x, const RunContext& context) override {
    Count();
    return Costs::RowSums(x, context);
  }
  absl::StatusOr<std::vector<double>> ColumnSums(
      const std::vector<double>& x, const RunContext& context) override {
    Count();
    return Costs::ColumnSums(x, context);
  }
  absl::StatusOr<std::vector<std::int32_t>> TransportDuals(
      const RunContext& context) override {
    Count();
    return Costs::TransportDuals(context);
  }
  absl::Status BringRowsNear(const RunContext& context) override {
    Count();
    return Costs::BringRowsNear(context);
  }

 protected:
  void Count() {
    if (++calls_ == call_) {
      context_.token().Cancel(absl::CancelledError("enough"));
    }
  }

 private:
  // Rows may be asked for by several threads.
  std::atomic<std::int64_t> calls_{0};
  const std::int64_t call_;
  const RunContext& context_;
};

}  // namespace moescope::numerics
