#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/checkpoint.h"
#include "moescope/numerics/assignment.h"
#include "moescope/numerics/device_similarities.h"

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

/// Memory to match neurons in, used again for the next: that of the device,
/// where there is one, which then does what it can.
struct MatchingMemory {
  numerics::SimilarityMatrix host;
  std::optional<numerics::DeviceSimilarities> device;
};

/// How many matchings of `width` neurons of length `depth` a device has memory
/// for at once, with `threads` threads to search: one per thread, as long as all
/// take no more than 4 GiB; at least one.
std::int64_t MatchingsOnDevice(std::int64_t width, std::int64_t depth,
                               std::int64_t threads);

/// Matches the neurons of `right` with those of `left` by `projection`, a
/// projection's name or "joint". What can be shared out goes through `pool`.
/// Errors: INTERNAL (shapes, library); RESOURCE_EXHAUSTED reason
/// OUT_OF_DEVICE_MEMORY; CANCELLED, DEADLINE_EXCEEDED.
absl::StatusOr<MatchedPart> MatchPart(const model::ExpertWeights& left,
                                      const model::ExpertWeights& right,
                                      const std::string& projection,
                                      ThreadPool& pool,
                                      const RunContext& context,
                                      MatchingMemory& memory);

}  // namespace moescope::analysis::internal
