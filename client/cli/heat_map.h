#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"

namespace moescope::client {

/// A square matrix as shades, a row per line, both sides named: the darkest
/// shade is the largest value off the diagonal, the lightest the smallest; the
/// last line names both. Up to 8 rows also show the numbers. `values` is
/// row-major, [N, N] with N names; what is not finite is "?". `plain`: ASCII
/// characters instead of Unicode blocks.
std::string HeatMap(absl::Span<const std::string> names,
                    absl::Span<const double> values, bool plain);

}  // namespace moescope::client
