#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"

namespace moescope::numerics {

struct MantelOptions {
  /// Relabelings drawn where there are too many to count.
  std::int64_t draws = 10000;
  std::int64_t seed = 0;
};

struct MantelResult {
  double r = 0;          ///< Pearson's correlation of the lower triangles.
  double p = 1;          ///< Share of relabelings with |r'| ≥ |r|.
  double p_greater = 1;  ///< Share with r' ≥ r.
  double p_se = 0;       ///< Standard error of p; 0 where all were counted.
  std::int64_t relabelings = 0;
};

/// Matrices up to this size are tested against all their relabelings.
inline constexpr std::int64_t kMantelExactSize = 8;

/// Entries below the diagonal of map [N, N], row by row: (1,0), (2,0), (2,1), …
std::vector<double> LowerTriangle(absl::Span<const double> map,
                                  std::int64_t size);

/// Whether two symmetric maps over the same N things agree more than chance
/// allows: correlation of their lower triangles against that after relabeling
/// the things of the first map, y[i,j] with x[π(i),π(j)].
/// Definition: N ≤ 8: over all N! relabelings, identity included, p = share.
/// Else `draws` of them, p = (1 + count)/(1 + draws) and
/// p_se = √(p(1−p)/draws). Correlations closer than 1e-9 count as equal, so
/// that rounding does not tell ties apart.
/// Source: Mantel, Cancer Research 27 (1967); (1 + count)/(1 + draws) after
/// Phipson and Smyth (2010).
/// Shapes: x, y [N, N], symmetric; diagonals are not looked at.
/// A constant or non-finite map has r and both p NaN.
/// Cost: relabelings N²/2 multiplications.
/// Errors: INVALID_ARGUMENT (sizes; N < 3; draws < 1); CANCELLED,
/// DEADLINE_EXCEEDED.
/// Threads: uses `pool`; draws come in blocks of fixed size with a generator
/// each (mt19937_64), so the result does not depend on its size.
absl::StatusOr<MantelResult> MantelTest(absl::Span<const double> x,
                                        absl::Span<const double> y,
                                        std::int64_t size,
                                        const MantelOptions& options,
                                        ThreadPool& pool,
                                        const RunContext& context);

}  // namespace moescope::numerics
