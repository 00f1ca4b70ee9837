#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/analysis/participants_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::analysis::internal {
namespace {

absl::StatusOr<model::ExpertWeights> SharedWeights(
    const model::Checkpoint& checkpoint, std::int64_t layer) {
  MOESCOPE_ASSIGN_OR_RETURN(std::optional<model::ExpertWeights> shared,
                            checkpoint.SharedExpert(layer));
  if (!shared.has_value()) {
    return FieldError(absl::StatusCode::kFailedPrecondition,
                      "spec.participants",
                      absl::StrCat("layer ", layer, " has no shared experts"),
                      "NO_SHARED_EXPERTS");
  }
  return *std::move(shared);
}

absl::StatusOr<Participant> FindParticipant(const std::string& name,
                                            std::int64_t layer,
                                            const ModelInputs& inputs) {
  Participant participant;
  if (name == "S") {
    participant.number = kSharedParticipant;
    MOESCOPE_ASSIGN_OR_RETURN(participant.weights,
                              SharedWeights(*inputs.checkpoint, layer));
  } else if (name == "F") {
    if (inputs.baseline == nullptr) {
      return absl::InternalError("participant F without a baseline");
    }
    participant.number = kBaselineParticipant;
    MOESCOPE_ASSIGN_OR_RETURN(participant.weights,
                              inputs.baseline->DenseBlock(layer));
  } else {
    if (!absl::SimpleAtoi(name, &participant.number)) {
      return absl::InternalError(
          absl::StrCat("participant \"", name, "\" is not normalised"));
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        participant.weights,
        inputs.checkpoint->Expert(layer, participant.number));
  }
  participant.routed_shape =
      participant.weights[model::Projection::kGate].rows ==
      inputs.checkpoint->config().expert_width;
  return participant;
}

}  // namespace

absl::StatusOr<std::vector<Participant>> FindParticipants(
    const std::vector<std::string>& names, std::int64_t layer,
    const ModelInputs& inputs) {
  if (inputs.checkpoint == nullptr) {
    return absl::InternalError("an analysis of weights without a checkpoint");
  }
  std::vector<Participant> participants;
  participants.reserve(names.size());
  for (const std::string& name : names) {
    MOESCOPE_ASSIGN_OR_RETURN(Participant participant,
                              FindParticipant(name, layer, inputs));
    participants.push_back(participant);
  }
  return participants;
}

absl::StatusOr<model::Projection> ParseProjection(const std::string& name) {
  for (const model::Projection projection :
       {model::Projection::kGate, model::Projection::kUp,
        model::Projection::kDown}) {
    if (name == model::ProjectionName(projection)) {
      return projection;
    }
  }
  return absl::InternalError(
      absl::StrCat("projection \"", name, "\" is not normalised"));
}

}  // namespace moescope::analysis::internal
