#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

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

/// Who can take part in what is asked for.
struct FittingRule {
  /// Participants that are needed.
  std::int64_t least = 1;
  /// Only routed experts can; else also S and F of a routed expert's width.
  bool routed_only = false;
  /// Why, and what takes the others.
  absl::string_view explanation;
};

/// NormaliseParticipants where not everybody fits. Who follows from the defaults
/// stays listed, as in the keys of old results; the work leaves it out.
/// Errors: also INVALID_ARGUMENT field spec.participants[i] (its place in the
/// client's list) where that names one who does not fit, field spec.participants
/// where it has too few who do; FAILED_PRECONDITION field spec.model where the
/// choice was left to the model.
absl::Status NormaliseFitting(const ModelFacts& model,
                              const ModelFacts* baseline,
                              const FittingRule& rule,
                              const ParticipantFields& spec);

/// NormaliseParticipants for pairs of equally many neurons: leaves out S and F
/// of another width than a routed expert's.
/// Errors: also INVALID_ARGUMENT field spec.participants[i] where `participants`
/// names one of them, FAILED_PRECONDITION field spec.participants where `pairs`
/// reaches it; as NormaliseFitting where fewer than two are left.
absl::Status NormaliseMatched(const ModelFacts& model,
                              const ModelFacts* baseline,
                              NeuronMatchingSpec& spec);

}  // namespace moescope::spec::internal
