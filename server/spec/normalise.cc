// Checks and canonical order of every field of every Spec.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/spec/participants_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"
#include "moescope/spec/analysis_spec.h"

namespace moescope::spec {
namespace {

using internal::FittingRule;
using internal::NormaliseFitting;
using internal::NormaliseParticipants;

constexpr std::int64_t kMinBlockTokens = 64;
constexpr std::int64_t kMaxBlockTokens = std::int64_t{1} << 20;
constexpr std::size_t kMaxThresholds = 16;
constexpr std::size_t kMaxQuantiles = 1024;
constexpr std::int64_t kMaxTopTokens = 64;
constexpr std::int64_t kMaxNullDraws = 1000;
constexpr double kMaxHistogramEdges = 4097;
constexpr std::int64_t kMaxDraws = 10000000;
constexpr std::int64_t kMaxSampleSize = 1000000;
constexpr std::int64_t kMaxBins = 1024;
constexpr absl::string_view kOneShape =
    "all matrices need an expert's shape; expert_similarity at level "
    "neuron_average and neuron_pca take others";

absl::Status RequireMoe(const ModelFacts& model) {
  if (!model.is_dense) {
    return absl::OkStatus();
  }
  return FieldError(absl::StatusCode::kFailedPrecondition, "spec.model",
                    absl::StrCat("\"", model.name,
                                 "\" is dense: it has no routed experts"),
                    "ANALYSIS_DOES_NOT_FIT");
}

// A layer beyond the checkpoint is one thing, a dense layer of it another.
absl::Status RefuseLayer(absl::string_view field, const ModelFacts& model,
                         absl::Span<const std::int64_t> allowed,
                         std::int64_t layer) {
  const std::string message =
      absl::StrCat(layer, " is none of the MoE layers ",
                   absl::StrJoin(allowed, ","), " of model \"", model.name,
                   "\"");
  if (layer < 0 || layer >= model.num_layers) {
    return FieldError(absl::StatusCode::kOutOfRange, field, message,
                      "LAYER_OUT_OF_RANGE");
  }
  return FieldError(absl::StatusCode::kFailedPrecondition, field,
                    absl::StrCat(message, ": it is dense"),
                    "ANALYSIS_DOES_NOT_FIT");
}

// Sorts `layers`, drops repeats, expands an empty list to all of `allowed`.
absl::Status NormaliseLayers(absl::string_view field, const ModelFacts& model,
                             absl::Span<const std::int64_t> allowed,
                             std::vector<std::int64_t>& layers) {
  if (layers.empty()) {
    layers.assign(allowed.begin(), allowed.end());
    return absl::OkStatus();
  }
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  for (const std::int64_t layer : layers) {
    if (std::find(allowed.begin(), allowed.end(), layer) == allowed.end()) {
      return RefuseLayer(field, model, allowed, layer);
    }
  }
  return absl::OkStatus();
}

// As NormaliseLayers, among the layers that were chosen.
absl::Status NormaliseNeuronLayers(const ModelFacts& model,
                                   const std::vector<std::int64_t>& chosen,
                                   std::vector<std::int64_t>& layers) {
  constexpr absl::string_view kField = "spec.neuron_layers";
  if (layers.empty()) {
    layers = chosen;
    return absl::OkStatus();
  }
  MOESCOPE_RETURN_IF_ERROR(
      NormaliseLayers(kField, model, model.moe_layers, layers));
  for (const std::int64_t layer : layers) {
    if (std::find(chosen.begin(), chosen.end(), layer) == chosen.end()) {
      return InvalidField(kField, absl::StrCat(layer, " is not in spec.layers ",
                                               absl::StrJoin(chosen, ",")));
    }
  }
  return absl::OkStatus();
}

// Puts `words` into the order of `allowed`, drops repeats; empty becomes
// `preset`.
absl::Status NormaliseWords(absl::string_view field,
                            const std::vector<std::string>& allowed,
                            const std::vector<std::string>& preset,
                            std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (std::find(allowed.begin(), allowed.end(), word) == allowed.end()) {
      return InvalidField(field, absl::StrCat(QuoteName(word), " is none of ",
                                              absl::StrJoin(allowed, ", ")));
    }
  }
  if (words.empty()) {
    words = preset;
    return absl::OkStatus();
  }
  std::vector<std::string> ordered;
  for (const std::string& word : allowed) {
    if (std::find(words.begin(), words.end(), word) != words.end()) {
      ordered.push_back(word);
    }
  }
  words = std::move(ordered);
  return absl::OkStatus();
}

absl::Status CheckTokenCount(std::size_t count, const SpecLimits& limits) {
  if (count == 0) {
    return InvalidField("spec.input", "is empty: give text or token ids");
  }
  if (static_cast<std::int64_t>(count) > limits.max_tokens) {
    ErrorDetails details;
    details.reason = "TOKEN_LIMIT";
    details.fields.push_back(
        {"spec.input", absl::StrCat(count, " tokens, the limit is ",
                                    limits.max_tokens)});
    details.metadata["limit"] = absl::StrCat(limits.max_tokens);
    return MakeError(absl::StatusCode::kResourceExhausted,
                     absl::StrCat("spec.input: ", count,
                                  " tokens are more than the limit of ",
                                  limits.max_tokens),
                     details);
  }
  return absl::OkStatus();
}

absl::Status CheckInput(const ModelFacts& model, const SpecLimits& limits,
                        TokenInput& input) {
  MOESCOPE_RETURN_IF_ERROR(CheckTokenCount(input.ids.size(), limits));
  std::int64_t left = static_cast<std::int64_t>(input.ids.size());
  for (const std::int64_t length : input.lengths) {
    if (length < 1 || length > left) {
      return InvalidField("spec.input",
                          absl::StrCat("sequence length ", length,
                                       " does not fit the token ids"));
    }
    if (length > model.max_positions) {
      return FieldError(
          absl::StatusCode::kOutOfRange, "spec.input",
          absl::StrCat("a sequence of ", length, " tokens exceeds the ",
                       model.max_positions, " positions of model \"",
                       model.name, "\""),
          "SEQUENCE_TOO_LONG");
    }
    left -= length;
  }
  if (left != 0) {
    return InvalidField("spec.input",
                        absl::StrCat(left, " token ids are in no sequence"));
  }
  if (!input.labels.empty() && input.labels.size() != input.lengths.size()) {
    return InvalidField("spec.input", "labels are not one per sequence");
  }
  // Labels that say nothing are left out, so that they make no other key.
  if (std::all_of(input.labels.begin(), input.labels.end(),
                  [](const std::string& label) { return label.empty(); })) {
    input.labels.clear();
  }
  for (const std::int32_t id : input.ids) {
    if (id < 0 || id >= model.vocab_size) {
      return FieldError(
          absl::StatusCode::kOutOfRange, "spec.input",
          absl::StrCat("token id ", id, " is outside [0, ",
                       model.vocab_size - 1, "] of model \"", model.name,
                       "\""),
          "TOKEN_OUT_OF_RANGE");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBlockTokens(std::int64_t block_tokens) {
  if (block_tokens < kMinBlockTokens || block_tokens > kMaxBlockTokens) {
    return InvalidField("spec.block_tokens",
                        absl::StrCat(block_tokens, " is outside [",
                                     kMinBlockTokens, ", ", kMaxBlockTokens,
                                     "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckQuantiles(std::vector<double>& quantiles) {
  if (quantiles.size() > kMaxQuantiles) {
    return InvalidField("spec.quantiles",
                        absl::StrCat(quantiles.size(), " values; at most ",
                                     kMaxQuantiles, " are allowed"));
  }
  for (const double q : quantiles) {
    if (!(q >= 0.0 && q <= 1.0)) {
      return InvalidField("spec.quantiles",
                          absl::StrCat(q, " is outside [0, 1]"));
    }
  }
  std::sort(quantiles.begin(), quantiles.end());
  quantiles.erase(std::unique(quantiles.begin(), quantiles.end()),
                  quantiles.end());
  return absl::OkStatus();
}

absl::Status CheckThresholds(const std::vector<double>& thresholds) {
  constexpr absl::string_view kField = "spec.thresholds";
  if (thresholds.empty() || thresholds.size() > kMaxThresholds) {
    return InvalidField(kField,
                        absl::StrCat(thresholds.size(),
                                     " values; allowed are 1 to ",
                                     kMaxThresholds));
  }
  for (std::size_t i = 0; i < thresholds.size(); ++i) {
    if (!std::isfinite(thresholds[i]) || thresholds[i] < 0.0) {
      return InvalidField(kField, absl::StrCat(thresholds[i],
                                               " is not a finite number ≥ 0"));
    }
    if (i > 0 && thresholds[i] <= thresholds[i - 1]) {
      return InvalidField(kField, "values do not rise");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHistogram(const std::vector<double>& histogram) {
  constexpr absl::string_view kField = "spec.histogram";
  if (histogram.empty()) {
    return absl::OkStatus();
  }
  if (histogram.size() != 3) {
    return InvalidField(kField, "is not [low, high, number of edges]");
  }
  const double edges = histogram[2];
  const bool range_fits = std::isfinite(histogram[0]) &&
                          std::isfinite(histogram[1]) &&
                          histogram[0] < histogram[1];
  if (!range_fits || !(edges >= 2 && edges <= kMaxHistogramEdges) ||
      edges != std::floor(edges)) {
    return InvalidField(
        kField, absl::StrCat("[", absl::StrJoin(histogram, ", "),
                             "]: needs low < high and 2 to ",
                             kMaxHistogramEdges, " edges"));
  }
  return absl::OkStatus();
}

// Fields that only some models have.
absl::Status CheckTraceFields(const ModelFacts& model,
                              const std::vector<std::string>& fields) {
  const auto refuse = [&](const std::string& field, absl::string_view lacking) {
    return FieldError(absl::StatusCode::kFailedPrecondition, "spec.fields",
                      absl::StrCat("\"", field, "\": model \"", model.name,
                                   "\" has no ", lacking),
                      "ANALYSIS_DOES_NOT_FIT");
  };
  for (const std::string& field : fields) {
    if (field == "shared_share" && !model.has_shared_experts) {
      return refuse(field, "shared experts");
    }
    if (field == "choice" && !model.has_router_correction) {
      return refuse(field, "router correction; experts are chosen by score");
    }
    if (field == "group_mask" && !model.has_router_groups) {
      return refuse(field, "groups of experts");
    }
    if (absl::StartsWith(field, "attention_") && !model.has_attention_router) {
      return refuse(field, "router in its attention");
    }
  }
  return absl::OkStatus();
}

// The model's own convention gets one name, whichever it was given by.
absl::Status NormaliseMaskedGroups(const ModelFacts& model, std::string& word) {
  constexpr absl::string_view kField = "spec.masked_groups";
  const std::vector<std::string>& allowed = MaskedGroupsWords();
  if (std::find(allowed.begin(), allowed.end(), word) == allowed.end()) {
    return InvalidField(kField, absl::StrCat(QuoteName(word), " is none of ",
                                             absl::StrJoin(allowed, ", ")));
  }
  if (word == "model") return absl::OkStatus();
  if (!model.has_router_groups) {
    return InvalidField(
        kField, absl::StrCat("\"", word, "\": model \"", model.name,
                             "\" has no groups of experts; allowed: model"));
  }
  if (word == (model.masked_groups_are_zero ? "zero" : "negative_infinity")) {
    word = "model";
  }
  return absl::OkStatus();
}

absl::Status CheckRange(absl::string_view field, std::int64_t value,
                        std::int64_t low, std::int64_t high) {
  if (value < low || value > high) {
    return InvalidField(field, absl::StrCat(value, " is outside [", low, ", ",
                                            high, "]"));
  }
  return absl::OkStatus();
}

// A line through the pairs of experts needs three pairs.
absl::Status CheckRegression(const ModelFacts& model, std::int64_t draws,
                             std::int64_t seed) {
  constexpr std::int64_t kFewest = 3;
  if (model.num_experts < kFewest) {
    return FieldError(absl::StatusCode::kFailedPrecondition, "spec.model",
                      absl::StrCat("\"", model.name, "\" has ",
                                   model.num_experts, " experts, a regression "
                                   "over pairs needs ", kFewest),
                      "ANALYSIS_DOES_NOT_FIT");
  }
  MOESCOPE_RETURN_IF_ERROR(CheckRange("spec.draws", draws, 1, kMaxDraws));
  return CheckRange("spec.seed", seed, 0,
                    std::numeric_limits<std::int64_t>::max());
}

absl::Status CheckClustering(double eps, std::int64_t min_samples) {
  if (!std::isfinite(eps) || eps < 0) {
    return InvalidField("spec.eps", absl::StrCat(eps, " is not a finite number "
                                                      "≥ 0"));
  }
  return CheckRange("spec.min_samples", min_samples, 1,
                    std::numeric_limits<std::int64_t>::max());
}

// `pairs` as places among `count` participants, all of them when empty.
absl::Status NormalisePairs(std::int64_t count,
                            std::vector<std::int64_t>& pairs) {
  constexpr absl::string_view kField = "spec.pairs";
  if (pairs.empty()) {
    for (std::int64_t j = 0; j < count; ++j) {
      for (std::int64_t k = j + 1; k < count; ++k) {
        pairs.insert(pairs.end(), {j, k});
      }
    }
    return absl::OkStatus();
  }
  if (pairs.size() % 2 != 0) {
    return InvalidField(kField, absl::StrCat(pairs.size(),
                                             " numbers do not make pairs"));
  }
  if (static_cast<std::int64_t>(pairs.size()) / 2 > count * count) {
    return InvalidField(kField, absl::StrCat(pairs.size() / 2, " pairs of ",
                                             count, " participants; at most ",
                                             count * count, " are allowed"));
  }
  for (const std::int64_t place : pairs) {
    if (place < 0 || place >= count) {
      return FieldError(absl::StatusCode::kOutOfRange, kField,
                        absl::StrCat(place, " is outside [0, ", count - 1,
                                     "], the places of the participants"),
                        "EXPERT_OUT_OF_RANGE");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckNull(std::int64_t draws, std::int64_t seed) {
  if (draws != 0 && (draws < 2 || draws > kMaxNullDraws)) {
    return InvalidField("spec.null_draws",
                        absl::StrCat(draws, " is neither 0 nor in [2, ",
                                     kMaxNullDraws, "]"));
  }
  if (seed < 0) {
    return InvalidField("spec.null_seed",
                        absl::StrCat(seed, " is below 0"));
  }
  return absl::OkStatus();
}

struct Normaliser {
  const ModelFacts& model;
  const ModelFacts* baseline;
  const SpecLimits& limits;

  absl::Status operator()(RoutingTraceSpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(
        NormaliseLayers("spec.layers", model, model.moe_layers, spec.layers));
    MOESCOPE_RETURN_IF_ERROR(NormaliseWords("spec.fields", TraceFields(),
                                            {"ids", "weights", "logits"},
                                            spec.fields));
    MOESCOPE_RETURN_IF_ERROR(CheckTraceFields(model, spec.fields));
    MOESCOPE_RETURN_IF_ERROR(NormaliseMaskedGroups(model, spec.masked_groups));
    MOESCOPE_RETURN_IF_ERROR(CheckBlockTokens(spec.block_tokens));
    return CheckInput(model, limits, spec.input);
  }

  absl::Status operator()(ExpertSimilaritySpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(
        NormaliseLayers("spec.layers", model, model.moe_layers, spec.layers));
    MOESCOPE_RETURN_IF_ERROR(NormaliseWords("spec.levels", SimilarityLevels(),
                                            SimilarityLevels(), spec.levels));
    MOESCOPE_RETURN_IF_ERROR(NormaliseWords("spec.projections",
                                            ProjectionNames(),
                                            ProjectionNames(),
                                            spec.projections));
    return NormaliseCompared(spec);
  }

  absl::Status operator()(NeuronWeightStatisticsSpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(
        NormaliseLayers("spec.layers", model, model.moe_layers, spec.layers));
    MOESCOPE_RETURN_IF_ERROR(NormaliseWords("spec.projections",
                                            ProjectionNames(),
                                            ProjectionNames(),
                                            spec.projections));
    MOESCOPE_RETURN_IF_ERROR(CheckQuantiles(spec.quantiles));
    return NormaliseFitting(model, baseline, {1, false, kOneShape}, spec);
  }

  // A mean neuron has the model's width whatever the participant's.
  absl::Status NormaliseCompared(ExpertSimilaritySpec& spec) const {
    const auto asked = [&](const char* level) {
      return std::find(spec.levels.begin(), spec.levels.end(), level) !=
             spec.levels.end();
    };
    if (asked("neuron_average")) {
      return NormaliseParticipants(model, baseline, spec);
    }
    const FittingRule rule = {1, !asked("matrix"),
                              "no level in spec.levels takes it; "
                              "neuron_average does"};
    return NormaliseFitting(model, baseline, rule, spec);
  }

  // What every analysis of projections has.
  template <typename Spec>
  absl::Status NormaliseSelection(Spec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(
        NormaliseLayers("spec.layers", model, model.moe_layers, spec.layers));
    return NormaliseWords("spec.projections", ProjectionNames(),
                          ProjectionNames(), spec.projections);
  }

  absl::Status operator()(RouterRegressionSpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(NormaliseSelection(spec));
    return CheckRegression(model, spec.draws, spec.seed);
  }

  absl::Status operator()(MatrixPcaSpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(NormaliseSelection(spec));
    MOESCOPE_RETURN_IF_ERROR(CheckClustering(spec.eps, spec.min_samples));
    return NormaliseFitting(model, baseline, {2, false, kOneShape}, spec);
  }

  absl::Status operator()(NeuronPcaSpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(NormaliseSelection(spec));
    MOESCOPE_RETURN_IF_ERROR(CheckRange("spec.dims", spec.dims, 2, 3));
    MOESCOPE_RETURN_IF_ERROR(NormaliseWords("spec.outputs", PcaOutputs(),
                                            {"scores"}, spec.outputs));
    MOESCOPE_RETURN_IF_ERROR(
        CheckRange("spec.sample_size", spec.sample_size, 1, kMaxSampleSize));
    MOESCOPE_RETURN_IF_ERROR(CheckRange("spec.bins", spec.bins, 1, kMaxBins));
    MOESCOPE_RETURN_IF_ERROR(
        CheckRange("spec.seed", spec.seed, 0,
                   std::numeric_limits<std::int64_t>::max()));
    return NormaliseParticipants(model, baseline, spec);
  }

  absl::Status operator()(StaticSuiteSpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(NormaliseSelection(spec));
    MOESCOPE_RETURN_IF_ERROR(CheckQuantiles(spec.quantiles));
    MOESCOPE_RETURN_IF_ERROR(CheckRegression(model, spec.draws, spec.seed));
    MOESCOPE_RETURN_IF_ERROR(CheckClustering(spec.eps, spec.min_samples));
    MOESCOPE_RETURN_IF_ERROR(NormaliseParticipants(model, baseline, spec));
    // Sorted: all routed experts take part if the last of them has its place.
    const auto last = static_cast<std::size_t>(model.num_experts - 1);
    if (spec.participants.size() <= last ||
        spec.participants[last] != absl::StrCat(last)) {
      return InvalidField("spec.participants",
                          absl::StrCat("leaves out some of the ",
                                       model.num_experts,
                                       " routed experts: the suite takes all"));
    }
    return absl::OkStatus();
  }

  absl::Status operator()(NeuronMatchingSpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(
        NormaliseLayers("spec.layers", model, model.moe_layers, spec.layers));
    MOESCOPE_RETURN_IF_ERROR(NormaliseWords(
        "spec.projections", MatchingProjections(), MatchingProjections(),
        spec.projections));
    MOESCOPE_RETURN_IF_ERROR(
        internal::NormaliseMatched(model, baseline, spec));
    MOESCOPE_RETURN_IF_ERROR(CheckNull(spec.null_draws, spec.null_seed));
    return NormalisePairs(static_cast<std::int64_t>(spec.participants.size()),
                          spec.pairs);
  }

  absl::Status operator()(ActivationStatisticsSpec& spec) const {
    MOESCOPE_RETURN_IF_ERROR(
        NormaliseLayers("spec.layers", model, model.moe_layers, spec.layers));
    MOESCOPE_RETURN_IF_ERROR(
        NormaliseNeuronLayers(model, spec.layers, spec.neuron_layers));
    MOESCOPE_RETURN_IF_ERROR(CheckThresholds(spec.thresholds));
    MOESCOPE_RETURN_IF_ERROR(CheckHistogram(spec.histogram));
    if (spec.top_tokens < 0 || spec.top_tokens > kMaxTopTokens) {
      return InvalidField("spec.top_tokens",
                          absl::StrCat(spec.top_tokens, " is outside [0, ",
                                       kMaxTopTokens, "]"));
    }
    MOESCOPE_RETURN_IF_ERROR(CheckBlockTokens(spec.block_tokens));
    return CheckInput(model, limits, spec.input);
  }
};

}  // namespace

absl::Status Normalise(const ModelFacts& model, const ModelFacts* baseline,
                       const SpecLimits& limits, AnalysisSpec& spec) {
  MOESCOPE_RETURN_IF_ERROR(RequireMoe(model));
  return std::visit(Normaliser{model, baseline, limits}, spec);
}

}  // namespace moescope::spec
