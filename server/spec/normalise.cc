#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/spec/analysis_spec.h"

namespace moescope::spec {
namespace {

constexpr std::int64_t kMinBlockTokens = 64;
constexpr std::int64_t kMaxBlockTokens = 1 << 20;
constexpr std::size_t kMaxThresholds = 16;
constexpr std::size_t kMaxQuantiles = 64;
constexpr double kMaxHistogramEdges = 10001;
constexpr std::int64_t kMaxTopTokens = 64;

struct Facts {
  const ModelFacts& model;
  const ModelFacts* baseline;
  const SpecLimits& limits;
};

template <class T>
void SortUnique(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

template <class T>
bool Contains(const std::vector<T>& values, const T& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// "0-3, 7": rising numbers as ranges.
std::string Ranges(const std::vector<std::int64_t>& values) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < values.size();) {
    std::size_t last = i;
    while (last + 1 < values.size() && values[last + 1] == values[last] + 1) {
      ++last;
    }
    parts.push_back(last == i ? absl::StrCat(values[i])
                              : absl::StrCat(values[i], "-", values[last]));
    i = last + 1;
  }
  return absl::StrJoin(parts, ", ");
}

absl::Status OutOfRange(absl::string_view field,
                        absl::string_view description) {
  return FieldError(absl::StatusCode::kOutOfRange, field, description,
                    "OUT_OF_RANGE");
}

absl::Status Unmet(absl::string_view field, absl::string_view description,
                   absl::string_view reason) {
  return FieldError(absl::StatusCode::kFailedPrecondition, field, description,
                    reason);
}

absl::Status NormaliseModel(const Facts& facts, const std::string& model) {
  if (model.empty()) {
    return InvalidField("spec.model", "is empty; name a model");
  }
  if (facts.model.is_dense || facts.model.moe_layers.empty()) {
    return Unmet(
        "spec.model",
        absl::StrCat("\"", facts.model.name, "\" is dense: it has no experts"),
        "MODEL_IS_DENSE");
  }
  return absl::OkStatus();
}

absl::Status NormaliseLayers(const ModelFacts& model,
                             std::vector<std::int64_t>& layers) {
  if (layers.empty()) {
    layers = model.moe_layers;
    return absl::OkStatus();
  }
  SortUnique(layers);
  for (const std::int64_t layer : layers) {
    if (Contains(model.moe_layers, layer)) {
      continue;
    }
    const bool dense = layer >= 0 && layer < model.num_layers;
    return OutOfRange(
        "spec.layers",
        absl::StrCat(
            layer,
            dense ? std::string(" is a dense layer")
                  : absl::StrCat(" is outside [0, ", model.num_layers - 1, "]"),
            " of model \"", model.name,
            "\"; its MoE layers: ", Ranges(model.moe_layers)));
  }
  return absl::OkStatus();
}

// Puts `words` into the order of `allowed`; empty becomes `defaults`.
absl::Status NormaliseWords(absl::string_view field,
                            const std::vector<std::string>& allowed,
                            const std::vector<std::string>& defaults,
                            std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (!Contains(allowed, word)) {
      return InvalidField(field, absl::StrCat("\"", word, "\" is none of ",
                                              absl::StrJoin(allowed, ", ")));
    }
  }
  if (words.empty()) {
    words = defaults;
    return absl::OkStatus();
  }
  std::vector<std::string> ordered;
  for (const std::string& word : allowed) {
    if (Contains(words, word)) {
      ordered.push_back(word);
    }
  }
  words = ordered;
  return absl::OkStatus();
}

absl::Status CheckBaseline(const Facts& facts,
                           const std::vector<std::int64_t>& layers,
                           const std::string& baseline) {
  if (baseline.empty()) {
    return absl::OkStatus();
  }
  if (facts.baseline == nullptr) {
    return absl::InternalError(
        "a baseline is named, but its facts are missing");
  }
  const ModelFacts& dense = *facts.baseline;
  if (!dense.is_dense) {
    return Unmet("spec.baseline",
                 absl::StrCat("\"", dense.name,
                              "\" is a Mixture-of-Experts model; the baseline "
                              "must be dense"),
                 "BASELINE_UNFIT");
  }
  if (dense.width != facts.model.width) {
    return Unmet("spec.baseline",
                 absl::StrCat("\"", dense.name, "\" has width ", dense.width,
                              ", model \"", facts.model.name, "\" has ",
                              facts.model.width),
                 "BASELINE_UNFIT");
  }
  if (!layers.empty() && layers.back() >= dense.num_layers) {
    return OutOfRange(
        "spec.baseline",
        absl::StrCat("layer ", layers.back(), " is outside [0, ",
                     dense.num_layers - 1, "] of model \"", dense.name, "\""));
  }
  return absl::OkStatus();
}

// The number that `text` writes in its shortest form; -1 for anything else.
std::int64_t ExpertNumber(const std::string& text) {
  std::int64_t number = -1;
  if (!absl::SimpleAtoi(text, &number) || number < 0 ||
      absl::StrCat(number) != text) {
    return -1;
  }
  return number;
}

absl::Status NormaliseParticipants(const ModelFacts& model, bool has_baseline,
                                   bool& include_shared,
                                   std::vector<std::string>& participants) {
  constexpr absl::string_view kField = "spec.participants";
  std::vector<std::int64_t> experts;
  for (const std::string& participant : participants) {
    const std::int64_t expert = ExpertNumber(participant);
    if (participant == "S") {
      include_shared = true;
    } else if (participant == "F") {
      if (!has_baseline) {
        return InvalidField(kField, "\"F\" needs a baseline");
      }
    } else if (expert < 0) {
      return InvalidField(
          kField, absl::StrCat("\"", participant, "\" is none of \"0\" to \"",
                               model.num_experts - 1, "\", \"S\", \"F\""));
    } else if (expert >= model.num_experts) {
      return OutOfRange(kField,
                        absl::StrCat("expert ", expert, " is outside [0, ",
                                     model.num_experts - 1, "] of model \"",
                                     model.name, "\""));
    } else {
      experts.push_back(expert);
    }
  }
  if (include_shared && !model.has_shared_experts) {
    return Unmet(
        participants.empty() ? "spec.include_shared" : kField,
        absl::StrCat("model \"", model.name, "\" has no shared experts"),
        "NO_SHARED_EXPERTS");
  }
  if (participants.empty()) {
    for (std::int64_t expert = 0; expert < model.num_experts; ++expert) {
      experts.push_back(expert);
    }
  }
  SortUnique(experts);
  participants.clear();
  for (const std::int64_t expert : experts) {
    participants.push_back(absl::StrCat(expert));
  }
  if (include_shared) {
    participants.push_back("S");
  }
  if (has_baseline) {
    participants.push_back("F");
  }
  return absl::OkStatus();
}

absl::Status NormaliseLengths(const ModelFacts& model, TokenInput& input) {
  const auto num_tokens = static_cast<std::int64_t>(input.ids.size());
  if (input.lengths.empty()) {
    input.lengths = {num_tokens};
  }
  std::int64_t left = num_tokens;
  for (const std::int64_t length : input.lengths) {
    if (length < 1 || length > left) {
      return InvalidField("spec.input", absl::StrCat("sequence length ", length,
                                                     " is outside [1, ", left,
                                                     "], the tokens left"));
    }
    if (model.max_positions > 0 && length > model.max_positions) {
      return OutOfRange(
          "spec.input",
          absl::StrCat("a sequence of ", length, " tokens is longer than the ",
                       model.max_positions, " positions of model \"",
                       model.name, "\""));
    }
    left -= length;
  }
  if (left != 0) {
    return InvalidField(
        "spec.input",
        absl::StrCat("sequence lengths sum to ", num_tokens - left,
                     ", but there are ", num_tokens, " tokens"));
  }
  return absl::OkStatus();
}

absl::Status NormaliseInput(const Facts& facts, TokenInput& input) {
  constexpr absl::string_view kField = "spec.input";
  if (input.empty()) {
    return InvalidField(kField, "has no tokens; at least one is needed");
  }
  const auto num_tokens = static_cast<std::int64_t>(input.ids.size());
  if (num_tokens > facts.limits.max_tokens) {
    ErrorDetails details;
    details.reason = "TOKEN_LIMIT";
    const std::string text =
        absl::StrCat(num_tokens, " tokens are more than the limit of ",
                     facts.limits.max_tokens);
    details.fields = {{std::string(kField), text}};
    details.metadata = {{"limit", absl::StrCat(facts.limits.max_tokens)},
                        {"tokens", absl::StrCat(num_tokens)}};
    return MakeError(absl::StatusCode::kResourceExhausted,
                     absl::StrCat(kField, ": ", text), details);
  }
  MOESCOPE_RETURN_IF_ERROR(NormaliseLengths(facts.model, input));
  if (!input.labels.empty() && input.labels.size() != input.lengths.size()) {
    return InvalidField(kField,
                        absl::StrCat(input.labels.size(), " labels for ",
                                     input.lengths.size(), " sequences"));
  }
  if (std::all_of(input.labels.begin(), input.labels.end(),
                  [](const std::string& label) { return label.empty(); })) {
    input.labels.clear();
  }
  for (std::size_t i = 0; i < input.ids.size(); ++i) {
    if (input.ids[i] < 0 || input.ids[i] >= facts.model.vocab_size) {
      return OutOfRange(
          kField, absl::StrCat("token id ", input.ids[i], " at ", i,
                               " is outside [0, ", facts.model.vocab_size - 1,
                               "] of model \"", facts.model.name, "\""));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckInt(absl::string_view field, std::int64_t value,
                      std::int64_t low, std::int64_t high) {
  if (value < low || value > high) {
    return InvalidField(
        field, absl::StrCat(value, " is outside [", low, ", ", high, "]"));
  }
  return absl::OkStatus();
}

// Checks range (NaN lies in none) and number; makes -0 the same as 0.
absl::Status CheckDoubles(absl::string_view field, double low, double high,
                          std::size_t max_count, std::vector<double>& values) {
  if (values.size() > max_count) {
    return InvalidField(
        field,
        absl::StrCat(values.size(), " values are more than ", max_count));
  }
  for (double& value : values) {
    if (!std::isfinite(value) || value < low || value > high) {
      return InvalidField(
          field,
          std::isinf(high)
              ? absl::StrCat(value, " is not a finite number ≥ ", low)
              : absl::StrCat(value, " is outside [", low, ", ", high, "]"));
    }
    value += 0.0;
  }
  return absl::OkStatus();
}

absl::Status CheckHistogram(std::vector<double>& histogram) {
  constexpr absl::string_view kField = "spec.histogram";
  if (histogram.empty()) {
    return absl::OkStatus();
  }
  if (histogram.size() != 3) {
    return InvalidField(
        kField, absl::StrCat(histogram.size(),
                             " values; give low, high and number of edges"));
  }
  for (double& value : histogram) {
    if (!std::isfinite(value)) {
      return InvalidField(kField, absl::StrCat(value, " is not finite"));
    }
    value += 0.0;
  }
  if (histogram[0] >= histogram[1]) {
    return InvalidField(
        kField, absl::StrCat("low ", histogram[0], " is not below high ",
                             histogram[1]));
  }
  if (histogram[2] < 2 || histogram[2] > kMaxHistogramEdges ||
      histogram[2] != std::floor(histogram[2])) {
    return InvalidField(
        kField, absl::StrCat(histogram[2], " edges; a whole number in [2, ",
                             kMaxHistogramEdges, "] is allowed"));
  }
  return absl::OkStatus();
}

absl::Status Run(const Facts& facts, RoutingTraceSpec& spec) {
  MOESCOPE_RETURN_IF_ERROR(NormaliseModel(facts, spec.model));
  MOESCOPE_RETURN_IF_ERROR(NormaliseLayers(facts.model, spec.layers));
  MOESCOPE_RETURN_IF_ERROR(NormaliseWords(
      "spec.fields", TraceFields(), {"ids", "weights", "logits"}, spec.fields));
  if (Contains(spec.fields, std::string("shared_share")) &&
      !facts.model.has_shared_experts) {
    return Unmet("spec.fields",
                 absl::StrCat("shared_share: model \"", facts.model.name,
                              "\" has no shared experts"),
                 "NO_SHARED_EXPERTS");
  }
  MOESCOPE_RETURN_IF_ERROR(CheckInt("spec.block_tokens", spec.block_tokens,
                                    kMinBlockTokens, kMaxBlockTokens));
  return NormaliseInput(facts, spec.input);
}

// The fields that the analyses of weights share.
template <class Spec>
absl::Status RunWeights(const Facts& facts, Spec& spec) {
  MOESCOPE_RETURN_IF_ERROR(NormaliseModel(facts, spec.model));
  MOESCOPE_RETURN_IF_ERROR(NormaliseLayers(facts.model, spec.layers));
  MOESCOPE_RETURN_IF_ERROR(NormaliseWords("spec.projections", ProjectionNames(),
                                          ProjectionNames(), spec.projections));
  MOESCOPE_RETURN_IF_ERROR(CheckBaseline(facts, spec.layers, spec.baseline));
  return NormaliseParticipants(facts.model, !spec.baseline.empty(),
                               spec.include_shared, spec.participants);
}

absl::Status Run(const Facts& facts, ExpertSimilaritySpec& spec) {
  MOESCOPE_RETURN_IF_ERROR(RunWeights(facts, spec));
  MOESCOPE_RETURN_IF_ERROR(NormaliseWords("spec.levels", SimilarityLevels(),
                                          SimilarityLevels(), spec.levels));
  if (spec.levels == std::vector<std::string>{"router"}) {
    spec.projections = ProjectionNames();
  }
  return absl::OkStatus();
}

absl::Status Run(const Facts& facts, NeuronWeightStatisticsSpec& spec) {
  MOESCOPE_RETURN_IF_ERROR(RunWeights(facts, spec));
  if (spec.quantiles.empty()) {
    spec.quantiles = NeuronWeightStatisticsSpec().quantiles;
  }
  MOESCOPE_RETURN_IF_ERROR(
      CheckDoubles("spec.quantiles", 0, 1, kMaxQuantiles, spec.quantiles));
  SortUnique(spec.quantiles);
  return absl::OkStatus();
}

absl::Status Run(const Facts& facts, ActivationStatisticsSpec& spec) {
  MOESCOPE_RETURN_IF_ERROR(NormaliseModel(facts, spec.model));
  MOESCOPE_RETURN_IF_ERROR(NormaliseLayers(facts.model, spec.layers));
  if (spec.thresholds.empty()) {
    spec.thresholds = ActivationStatisticsSpec().thresholds;
  }
  MOESCOPE_RETURN_IF_ERROR(CheckDoubles("spec.thresholds", 0,
                                        std::numeric_limits<double>::infinity(),
                                        kMaxThresholds, spec.thresholds));
  // Not sorted here: which is first decides the per-neuron frequencies.
  const auto fall = std::adjacent_find(
      spec.thresholds.begin(), spec.thresholds.end(), std::greater_equal<>());
  if (fall != spec.thresholds.end()) {
    return InvalidField(
        "spec.thresholds",
        absl::StrCat("do not rise: ", *(fall + 1), " after ", *fall));
  }
  MOESCOPE_RETURN_IF_ERROR(CheckHistogram(spec.histogram));
  MOESCOPE_RETURN_IF_ERROR(
      CheckInt("spec.top_tokens", spec.top_tokens, 0, kMaxTopTokens));
  SortUnique(spec.neuron_layers);
  for (const std::int64_t layer : spec.neuron_layers) {
    if (!Contains(spec.layers, layer)) {
      return InvalidField("spec.neuron_layers",
                          absl::StrCat(layer, " is not among the layers ",
                                       Ranges(spec.layers)));
    }
  }
  if (spec.neuron_layers.empty()) {
    spec.neuron_layers = spec.layers;
  }
  MOESCOPE_RETURN_IF_ERROR(CheckInt("spec.block_tokens", spec.block_tokens,
                                    kMinBlockTokens, kMaxBlockTokens));
  return NormaliseInput(facts, spec.input);
}

}  // namespace

absl::Status Normalise(const ModelFacts& model, const ModelFacts* baseline,
                       const SpecLimits& limits, AnalysisSpec& spec) {
  const Facts facts{model, baseline, limits};
  return std::visit(
      [&facts](auto& alternative) { return Run(facts, alternative); }, spec);
}

}  // namespace moescope::spec
