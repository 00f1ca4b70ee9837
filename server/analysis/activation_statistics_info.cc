#include <string>
#include <utility>
#include <vector>

#include "server/analysis/parameters_internal.h"

#include "moescope/analysis/activation_statistics.h"

namespace moescope::analysis {
namespace {

using spec::DType;

spec::ArrayDeclaration Real(const std::string& name,
                            std::vector<std::string> shape,
                            std::string meaning) {
  return {name, DType::kFloat64, std::move(shape), "1", std::move(meaning)};
}

spec::ArrayDeclaration Count(const std::string& name,
                             std::vector<std::string> shape, std::string unit,
                             std::string meaning) {
  return {name, DType::kInt64, std::move(shape), std::move(unit),
          std::move(meaning)};
}

void DeclareMoments(const std::string& group, const std::string& over,
                    std::vector<spec::ArrayDeclaration>& all) {
  const auto add = [&](const char* name, const std::string& what) {
    all.push_back({group + name,
                   DType::kFloat32,
                   {"E", "F"},
                   "1",
                   what + ", by neuron, " + over});
  };
  add("frequency", "Share of tokens with |a| above the first threshold");
  add("mean", "Mean of a");
  add("mean_abs", "Mean of |a|");
  add("max", "Largest a");
  add("second_moment", "Mean of a squared");
}

void DeclareNeurons(const std::string& layer,
                    std::vector<spec::ArrayDeclaration>& all) {
  DeclareMoments(layer + "neuron.", "over all tokens.", all);
  DeclareMoments(
      layer + "neuron_routed.",
      "over the tokens routed to the expert; 0 where there are none.", all);
  all.push_back(Count(layer + "neuron.top_tokens", {"E", "F", "*"}, "token",
                      "Positions of the tokens of largest a, by neuron; ties "
                      "to the earlier; -1 where there is none."));
  all.push_back(
      {layer + "neuron.top_values",
       DType::kFloat32,
       {"E", "F", "*"},
       "1",
       "The largest a, by neuron, falling; NaN where there is none."});
}

std::vector<spec::ArrayDeclaration> Declarations() {
  const std::string p = "layer.{layer}.";
  std::vector<spec::ArrayDeclaration> all = {
      Real(p + "thresholds", {"H"}, "The thresholds that the shares are for."),
      Real(p + "fraction", {"H"},
           "Share of |a| above each threshold, over all tokens, experts and "
           "neurons."),
      Real(p + "fraction_routed", {"H"},
           "The same over the pairs of a token and an expert it is routed to."),
      Real(p + "expert_fraction", {"E", "H"},
           "Share of |a| above each threshold, by expert, over all tokens."),
      Real(p + "expert_fraction_routed", {"E", "H"},
           "The same over the tokens routed to the expert; 0 where there are "
           "none."),
      Count(p + "routed_tokens", {"E"}, "tokens",
            "Tokens routed to each expert."),
      Count(p + "tokens", {}, "tokens", "Tokens seen."),
      Count(p + "near_threshold", {}, "1",
            "Values with ||a| - threshold| < 1e-6, over all thresholds: how "
            "far counts may move under rounding."),
      Count(p + "nonfinite", {"E"}, "1",
            "Activations that are NaN or infinite."),
      Real(p + "histogram_edges", {"*"}, "Edges of the histogram's bins."),
      Count(p + "histogram", {"E", "*"}, "1",
            "Counts of a by expert: below the first edge, in each bin [edge, "
            "next edge), at or above the last edge."),
      Real("total.fraction", {"H"}, "Mean over the layers of fraction."),
      Real("total.fraction_routed", {"H"},
           "Mean over the layers of fraction_routed."),
  };
  DeclareNeurons(p, all);
  return all;
}

}  // namespace

spec::AnalysisInfo ActivationStatisticsInfo() {
  using Spec = spec::ActivationStatisticsSpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary = "What the neurons of every expert do over a text.";
  info.definition =
      "Of a = act(gate_proj x), before the product with up_proj x, for all "
      "experts on all tokens: share of |a| above thresholds over all pairs of "
      "token and expert and over the routed ones; per neuron frequency, mean, "
      "mean |a|, max, second moment and tokens of largest a; histogram.";
  info.source = "arXiv 2406.18219, appendix H (threshold 0.001)";
  info.needs_tokens = true;
  info.needs_forward = true;
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"input", internal::kInputMeaning},
       {"layers", internal::kLayersMeaning},
       {"thresholds",
        "Values ≥ 0, rising, at most 16; |a| above one counts as active. "
        "Frequencies of neurons use the first."},
       {"histogram",
        "Low, high and number of edges (2 to 4097) of equal bins, with "
        "underflow and overflow beside them; empty: no histogram."},
       {"top_tokens",
        "How many tokens of largest a are kept per neuron, 0 to 64."},
       {"neuron_layers",
        "Layers whose per-neuron arrays are part of the answer, among layers; "
        "empty: all."},
       {"block_tokens", internal::kBlockTokensMeaning}});
  info.schema.arrays = Declarations();
  return info;
}

}  // namespace moescope::analysis
