#pragma once

#include <cstdint>

#include "moescope/numerics/principal_components.h"

namespace moescope::numerics::internal {

/// Turns each component so that its score of largest magnitude is positive, and
/// fills sign_gap.
void OrientComponents(std::int64_t components, PrincipalComponents& result);

/// The answer where a weight is not finite.
PrincipalComponents NotANumber(std::int64_t points, std::int64_t components,
                               std::int64_t shares);

}  // namespace moescope::numerics::internal
