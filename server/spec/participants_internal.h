#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "moescope/spec/analysis_spec.h"

namespace moescope::spec::internal {

/// The fields of any Spec of participants; borrowed. `layers` are normalised.
struct ParticipantFields {
  template <class Spec>
  ParticipantFields(Spec& spec)  // NOLINT: a view of any of them.
      : layers(spec.layers),
        participants(spec.participants),
        include_shared(spec.include_shared),
        baseline(spec.baseline) {}

  const std::vector<std::int64_t>& layers;
  std::vector<std::string>& participants;
  bool& include_shared;
  std::string& baseline;
};

/// Expands an empty list, sorts the others and checks who is named.
/// Errors: INVALID_ARGUMENT, OUT_OF_RANGE, FAILED_PRECONDITION, fields
/// spec.participants, spec.baseline and spec.layers.
absl::Status NormaliseParticipants(const ModelFacts& model,
                                   const ModelFacts* baseline,
                                   const ParticipantFields& spec);

/// `chosen`: the client named participants.
/// Errors: INVALID_ARGUMENT field spec.participants where it did,
/// FAILED_PRECONDITION field spec.model where it left the choice to the model.
absl::Status RequireTwoParticipants(
    const ModelFacts& model, const std::vector<std::string>& participants,
    bool chosen);

/// NormaliseParticipants for pairs of equally many neurons: leaves out S and F
/// of another width than a routed expert's.
/// Errors: also FAILED_PRECONDITION field spec.participants where `participants`
/// names one of them or `pairs` reaches it; those of RequireTwoParticipants.
absl::Status NormaliseMatched(const ModelFacts& model,
                              const ModelFacts* baseline,
                              NeuronMatchingSpec& spec);

}  // namespace moescope::spec::internal
