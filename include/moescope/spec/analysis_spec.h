#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/spec/matching_spec.h"
#include "moescope/spec/static_specs.h"
#include "moescope/spec/token_input.h"

namespace moescope::spec {

// One struct per analysis. Each declares
//   kName, kVersion   the analysis; the version rises when results change
//   VisitFields       every field by name, in canonical order
// and everything generic (canonical bytes, protobuf, JSON parameters, the
// description of defaults) walks VisitFields. Field types that visitors know:
// bool, int64_t, double, string, vectors of int64_t, double, string, and
// TokenInput. An empty list that the comment calls "all" is expanded when the
// Spec is normalised against a model.
// A field of a later release than the Spec stands in kLaterFields, too:
// canonical bytes leave it out where it has its default, so that results under
// the keys of earlier releases stay answers.

/// Routing of every token in chosen layers.
struct RoutingTraceSpec {
  static constexpr absl::string_view kName = "routing_trace";
  static constexpr int kVersion = 1;

  std::string model;
  TokenInput input;
  std::vector<std::int64_t> layers;  ///< MoE layers, rising; empty: all.
  /// Among TraceFields(), in that order; empty: ids, weights, logits.
  std::vector<std::string> fields;
  std::int64_t block_tokens = 8192;  ///< Tokens per block of whole sequences.
  /// Among MaskedGroupsWords(): what experts of masked groups compare as, in
  /// the forward pass and in what it shows. After Normalise: another word than
  /// "model" only where the model has the other convention.
  std::string masked_groups = "model";

  static constexpr std::array<absl::string_view, 1> kLaterFields = {
      "masked_groups"};

  /// Whether they compare as 0; nullopt: as the model has it.
  std::optional<bool> MaskedGroupsAreZero() const;

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("input", self.input);
    visit("layers", self.layers);
    visit("fields", self.fields);
    visit("block_tokens", self.block_tokens);
    visit("masked_groups", self.masked_groups);
  }
};

/// Cosine similarity of experts from their weights.
struct ExpertSimilaritySpec {
  static constexpr absl::string_view kName = "expert_similarity";
  static constexpr int kVersion = 1;

  std::string model;
  std::vector<std::int64_t> layers;      ///< MoE layers, rising; empty: all.
  std::vector<std::string> levels;       ///< Among SimilarityLevels(); empty: all.
  std::vector<std::string> projections;  ///< Among ProjectionNames(); empty: all.
  /// Who is compared: "0" … "E-1" routed experts, "S" the shared experts'
  /// block, "F" the baseline's block; in that order. Empty: all routed experts,
  /// with S if include_shared and F if there is a baseline. The matrix level
  /// leaves out S and F where their width is not F's of a routed expert.
  std::vector<std::string> participants;
  bool include_shared = false;  ///< After Normalise: whether S takes part.
  /// A dense model whose feed-forward block of the same layer is "F".
  std::string baseline;

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("layers", self.layers);
    visit("levels", self.levels);
    visit("projections", self.projections);
    visit("participants", self.participants);
    visit("include_shared", self.include_shared);
    visit("baseline", self.baseline);
  }
};

/// L2 norms of every neuron and summaries of them, from the weights.
struct NeuronWeightStatisticsSpec {
  static constexpr absl::string_view kName = "neuron_weight_statistics";
  static constexpr int kVersion = 1;

  std::string model;
  std::vector<std::int64_t> layers;      ///< MoE layers, rising; empty: all.
  std::vector<std::string> projections;  ///< Among ProjectionNames(); empty: all.
  std::vector<std::string> participants;  ///< As in ExpertSimilaritySpec.
  bool include_shared = false;
  std::string baseline;
  std::vector<double> quantiles = {0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};
  bool effective_rank = true;

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("layers", self.layers);
    visit("projections", self.projections);
    visit("participants", self.participants);
    visit("include_shared", self.include_shared);
    visit("baseline", self.baseline);
    visit("quantiles", self.quantiles);
    visit("effective_rank", self.effective_rank);
  }
};

/// Statistics of expert activations act(gate_proj x) over a text.
struct ActivationStatisticsSpec {
  static constexpr absl::string_view kName = "activation_statistics";
  static constexpr int kVersion = 1;

  std::string model;
  TokenInput input;
  std::vector<std::int64_t> layers;  ///< MoE layers, rising; empty: all.
  /// |a| above which a neuron counts as active; rising, ≥ 0. Per-neuron
  /// frequencies use the first.
  std::vector<double> thresholds = {1e-3};
  /// Histogram of a over [low, high) in bins-1 equal bins plus under- and
  /// overflow, given as {low, high, number of edges}; empty: none.
  std::vector<double> histogram;
  std::int64_t top_tokens = 0;  ///< Tokens of largest a per neuron; 0: none.
  /// Layers whose per-neuron arrays are emitted, among `layers`; empty: all.
  std::vector<std::int64_t> neuron_layers;
  std::int64_t block_tokens = 8192;

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("input", self.input);
    visit("layers", self.layers);
    visit("thresholds", self.thresholds);
    visit("histogram", self.histogram);
    visit("top_tokens", self.top_tokens);
    visit("neuron_layers", self.neuron_layers);
    visit("block_tokens", self.block_tokens);
  }
};

/// Any analysis. A new one is a struct above, a line here, a message in
/// proto/moescope/v1/analysis_spec.proto and an entry of the analysis catalogue.
using AnalysisSpec =
    std::variant<RoutingTraceSpec, ExpertSimilaritySpec,
                 NeuronWeightStatisticsSpec, ActivationStatisticsSpec,
                 RouterRegressionSpec, MatrixPcaSpec, NeuronPcaSpec,
                 StaticSuiteSpec, NeuronMatchingSpec>;

/// "ids", "weights", "logits", "scores", "margin", "entropy",
/// "choice", "group_mask", "shared_share", and of the attention's own router
/// "attention_ids", "attention_weights", "attention_logits",
/// "attention_scores", "attention_margin", "attention_entropy".
const std::vector<std::string>& TraceFields();
/// "model", "zero", "negative_infinity".
const std::vector<std::string>& MaskedGroupsWords();
/// "matrix", "neuron_average", "router".
const std::vector<std::string>& SimilarityLevels();
/// "gate_proj", "up_proj", "down_proj".
const std::vector<std::string>& ProjectionNames();

/// Participants in arrays of numbers: a routed expert is its number.
inline constexpr std::int64_t kSharedParticipant = -1;    ///< "S"
inline constexpr std::int64_t kBaselineParticipant = -2;  ///< "F"

/// The Spec with defaults of the analysis called `name`.
/// Errors: NOT_FOUND, field "analysis", listing the known names.
absl::StatusOr<AnalysisSpec> DefaultSpec(absl::string_view name);

absl::string_view AnalysisName(const AnalysisSpec& spec);
int AnalysisVersion(const AnalysisSpec& spec);
/// Names of the models that `spec` reads, its own first.
std::vector<std::string> ModelNames(const AnalysisSpec& spec);
/// The token input, or nullptr for an analysis of weights alone.
const TokenInput* GetTokenInput(const AnalysisSpec& spec);
TokenInput* MutableTokenInput(AnalysisSpec& spec);

/// What a Spec is normalised against: facts of the models, no types of theirs.
struct ModelFacts {
  std::string name;
  std::vector<std::int64_t> moe_layers;
  std::int64_t num_layers = 0;
  std::int64_t num_experts = 0;
  std::int64_t width = 0;
  std::int64_t expert_width = 0;  ///< Neurons of a routed expert,
  std::int64_t shared_width = 0;  ///< of the shared experts' block,
  std::int64_t dense_width = 0;   ///< of a dense layer's block; 0: none.
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;
  bool has_shared_experts = false;
  bool has_router_correction = false;
  bool has_router_groups = false;
  bool masked_groups_are_zero = false;  ///< Else -infinity; with groups alone.
  bool has_attention_router = false;
  bool is_dense = false;
};

/// Limits that a request must keep.
struct SpecLimits {
  std::int64_t max_tokens = 1 << 20;
};

/// Fills defaults, expands "all", removes duplicates, sorts lists into
/// canonical order and checks every field, so that equal questions have equal
/// Specs.
/// Errors, each naming the field as "spec.<field>": INVALID_ARGUMENT (unknown
/// word with the allowed ones, value outside its range), OUT_OF_RANGE (layer or
/// token id beyond the model, sequence longer than its positions),
/// FAILED_PRECONDITION (the model or a named layer is dense; it has no shared
/// experts, too few experts, or ones of a width that the analysis cannot take),
/// RESOURCE_EXHAUSTED (more tokens than the limit).
/// `baseline` is nullptr when the Spec names none.
absl::Status Normalise(const ModelFacts& model, const ModelFacts* baseline,
                       const SpecLimits& limits, AnalysisSpec& spec);

}  // namespace moescope::spec
