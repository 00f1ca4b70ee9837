#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/checkpoint.h"
#include "moescope/numerics/assignment.h"

namespace moescope::analysis::internal {

/// Cosine of two flattened matrices and what matching neurons makes of it.
struct FlattenedCosines {
  std::string projection;
  double before = 0;
  double after = 0;
};

/// One matching: of one projection, or of "joint".
struct MatchedPart {
  std::vector<std::int64_t> permutation;  // [F]
  double objective = 0;
  /// objective / F, for "joint" / (3 F).
  double mean_matched_cosine = 0;
  double kendall_tau = 0;
  std::int64_t fixed_points = 0;
  std::int64_t objective_quantised = 0;
  std::int64_t dual_quantised = 0;
  std::int64_t gap = 0;
  /// Weights of both sides that are NaN or infinite; when there are any, reals
  /// are NaN, the permutation −1 and the certificate 0.
  std::int64_t nonfinite = 0;
  std::vector<FlattenedCosines> flattened;
};

/// Matches the neurons of `right` with those of `left` by `projection`, a
/// projection's name or "joint". `matrix` is memory to work in; what can be
/// shared out goes through `pool`.
/// Errors: INTERNAL (shapes, library); CANCELLED, DEADLINE_EXCEEDED.
absl::StatusOr<MatchedPart> MatchPart(const model::ExpertWeights& left,
                                      const model::ExpertWeights& right,
                                      const std::string& projection,
                                      ThreadPool& pool,
                                      const RunContext& context,
                                      numerics::SimilarityMatrix& matrix);

}  // namespace moescope::analysis::internal
