#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/types/span.h"

// Squares of fp32 numbers overflow above 2^64 and vanish below 2^-75; where they
// do, work is repeated on numbers scaled by a power of two.
namespace moescope::numerics::internal {

/// Whether `energy` = Σ x² over `count` numbers was formed without loss of range:
/// their root mean square is above 2^-50, so that what vanished does not count.
inline bool InRange(double energy, std::int64_t count) {
  return count == 0 || (std::isfinite(energy) &&
                        energy > 0x1p-100 * static_cast<double>(count));
}

/// The largest finite magnitude, 0 where there is none.
inline float LargestFinite(absl::Span<const float> values) {
  float largest = 0;
  for (const float x : values) {
    largest = std::isfinite(x) ? std::max(largest, std::fabs(x)) : largest;
  }
  return largest;
}

/// The exponent of the largest finite magnitude, 0 where all are 0.
inline int RangeExponent(absl::Span<const float> values) {
  const float largest = LargestFinite(values);
  return largest > 0 ? std::ilogb(largest) : 0;
}

}  // namespace moescope::numerics::internal
