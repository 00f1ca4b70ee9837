#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace moescope::numerics {

/// Elements of `values` that are NaN or infinite.
std::int64_t CountNonfinite(absl::Span<const double> values);

/// Whether all of `values` are one number; no value is.
bool IsConstant(absl::Span<const double> values);

struct Moments {
  std::int64_t count = 0;
  /// Values that are NaN or infinite. When there are any, the four statistics
  /// are NaN: a value that is no number is reported, never averaged away.
  std::int64_t nonfinite = 0;
  double mean = 0;
  /// With ddof 0.
  double std = 0;
  double min = 0;
  double max = 0;
};

/// Mean, standard deviation √(Σ(x−mean)²/n), smallest and largest of `values`;
/// all NaN when there are none. Precision: fp64, in two passes.
Moments ComputeMoments(absl::Span<const double> values);

/// Quantiles by linear interpolation between the two nearest order statistics,
/// bit for bit as numpy.quantile's default: position q (n−1). All NaN when
/// `values` is empty or has a non-finite value.
/// Errors: INVALID_ARGUMENT for a q outside [0, 1].
absl::StatusOr<std::vector<double>> Quantiles(
    absl::Span<const double> values, absl::Span<const double> probabilities);

}  // namespace moescope::numerics
