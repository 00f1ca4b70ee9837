#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "server/numerics/assignment_costs_internal.h"

namespace moescope::numerics::internal {

/// Column duals of a cost matrix that sorting solves: rows and columns can be
/// ordered so that c_ij + c_kl ≤ c_il + c_kj for i < k, j < l (Monge), as in
/// products x_i y_j and distances of points on a line. Empty when it is not
/// such a matrix, give or take roundings. A start, no bound.
/// Source: Burkard, Klinz & Rudolf, Discrete Applied Mathematics 70 (1996) 95.
/// Cost: three passes over all entries.
absl::StatusOr<std::vector<std::int32_t>> SortedDuals(
    CostSource& costs, const RunContext& context);

}  // namespace moescope::numerics::internal
