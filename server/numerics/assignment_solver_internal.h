#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/numerics/assignment.h"
#include "server/numerics/assignment_costs_internal.h"

namespace moescope::numerics::internal {

/// How SolveAssignment goes about it. Any values give an optimal matching.
struct SolverOptions {
  std::int64_t core_per_line = 16;
  std::int64_t arcs_per_violation = 16;
  /// Duals start from transport when this share of lines is wanted by none, or
  /// when, after searching, pricing finds this share of the rows uncovered.
  double hard_share = 0.5;
  double give_up_share = 0.75;
  /// Rounds of pricing before duals start again from transport, and then
  /// before the search goes over whole rows.
  int max_rounds = 24;
  int max_rounds_after_transport = 96;
};

/// What a solution took.
struct SolverEffort {
  int rounds = 0;
  std::int64_t searches = 0;
  std::int64_t settled = 0;
  bool transport = false;
  bool dense = false;
};

struct Solution {
  std::vector<std::int32_t> column_of_row;
  Duals duals;
  SolverEffort effort;
};

/// The cheapest complete matching and duals that prove it: u_i + v_j ≤ c_ij
/// everywhere, with equality where matched.
absl::StatusOr<Solution> SolveCosts(CostSource& costs,
                                    const SolverOptions& options,
                                    const RunContext& context);

/// The matching of `solution` and its certificate, by similarities.
Assignment ToAssignment(Solution solution, CostSource& costs);

}  // namespace moescope::numerics::internal
