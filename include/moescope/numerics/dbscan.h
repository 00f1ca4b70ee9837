#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace moescope::numerics {

/// Clusters of points by density.
/// Definition: a point is a core point when at least `min_samples` points,
/// itself included, are within Euclidean distance `eps` (≤). Clusters are the
/// connected sets of core points, numbered from 0 in the order of their first
/// core point; another point within eps of a core point joins the first such
/// cluster; the rest is noise, -1. A point with a non-finite coordinate is
/// noise.
/// Source: Ester et al., KDD 1996; numbering as scikit-learn's DBSCAN.
/// Shapes: points [n, dims], result [n]. Cost: n² distances.
/// Errors: INVALID_ARGUMENT (sizes; eps not positive; min_samples < 1).
absl::StatusOr<std::vector<std::int64_t>> Dbscan(absl::Span<const double> points,
                                                 std::int64_t dims, double eps,
                                                 std::int64_t min_samples);

}  // namespace moescope::numerics
