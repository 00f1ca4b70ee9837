#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace moescope::spec {

/// Optimal one-to-one matching of the neurons of two experts. What every Spec
/// declares stands in moescope/spec/analysis_spec.h.
struct NeuronMatchingSpec {
  static constexpr absl::string_view kName = "neuron_matching";
  static constexpr int kVersion = 2;

  std::string model;
  std::vector<std::int64_t> layers;  ///< MoE layers, rising; empty: all.
  /// Among MatchingProjections(); empty: all.
  std::vector<std::string> projections;
  /// As in ExpertSimilaritySpec, but S and F take part only where they have as
  /// many neurons as a routed expert; named here without having them, they are
  /// refused.
  std::vector<std::string> participants;
  bool include_shared = false;
  std::string baseline;
  /// Two places among the participants for each pair, one pair after the other;
  /// with all routed experts there, a place is an expert's number. Empty: all
  /// pairs j < k.
  std::vector<std::int64_t> pairs;
  /// Matchings of Gaussian experts drawn for the null; 0: no null.
  std::int64_t null_draws = 10;
  std::int64_t null_seed = 0;

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("layers", self.layers);
    visit("projections", self.projections);
    visit("participants", self.participants);
    visit("include_shared", self.include_shared);
    visit("baseline", self.baseline);
    visit("pairs", self.pairs);
    visit("null_draws", self.null_draws);
    visit("null_seed", self.null_seed);
  }
};

/// "gate_proj", "up_proj", "down_proj", "joint".
const std::vector<std::string>& MatchingProjections();

}  // namespace moescope::spec
