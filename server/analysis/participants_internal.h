#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/shapes.h"

namespace moescope::analysis::internal {

/// How results number the two participants that are no routed expert.
inline constexpr std::int64_t kSharedParticipant = -1;
inline constexpr std::int64_t kBaselineParticipant = -2;

struct Participant {
  std::int64_t number = 0;  ///< Expert, or one of the two above.
  /// Whether its matrices have a routed expert's shape.
  bool routed_shape = false;
  model::ExpertWeights weights;
};

/// The participants that `names` (normalised) names, in layer `layer`.
/// Errors: FAILED_PRECONDITION field spec.participants (no shared experts in
/// this layer); INTERNAL (a model is missing); those of Checkpoint.
absl::StatusOr<std::vector<Participant>> FindParticipants(
    const std::vector<std::string>& names, std::int64_t layer,
    const ModelInputs& inputs);

/// One of spec::ProjectionNames().
absl::StatusOr<model::Projection> ParseProjection(const std::string& name);

}  // namespace moescope::analysis::internal
