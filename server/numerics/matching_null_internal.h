#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

#include "moescope/numerics/matching_null.h"

namespace moescope::numerics::internal {

/// numerics::SimulateMatchingNull with another limit than kMaxSimulatedWidth, a
/// multiple of 4: extrapolated values can then be held against drawn ones.
absl::StatusOr<MatchingNull> SimulateMatchingNull(
    std::int64_t width, std::int64_t depth, std::int64_t draws,
    std::int64_t seed, std::int64_t max_simulated_width, ThreadPool& pool,
    const RunContext& context);

}  // namespace moescope::numerics::internal
