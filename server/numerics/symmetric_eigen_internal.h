#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"

namespace moescope::numerics::internal {

struct LeadingPairs {
  at::Tensor values;   // [k] fp64, largest first
  at::Tensor vectors;  // [D, k] fp64
  /// ‖C v − λ v‖ / λ_1, the largest of the first `exact` pairs.
  double residual = 0;
};

/// The `count` largest eigenvalues of the symmetric `matrix` [D, D] fp64 with
/// their vectors, of which the first `exact` have a residual of at most 1e-8
/// λ_1, and the others one of at most 1e-5 λ_1 (an eigenvalue errs by its
/// square). Throws what torch throws.
absl::StatusOr<LeadingPairs> LargestPairs(const at::Tensor& matrix,
                                          std::int64_t count,
                                          std::int64_t exact, ThreadPool& pool,
                                          const RunContext& context);

}  // namespace moescope::numerics::internal
