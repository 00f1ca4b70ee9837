#include <string>
#include <vector>

#include "server/analysis/parameters_internal.h"

#include "moescope/analysis/activation_statistics.h"

namespace moescope::analysis {
namespace {

using spec::DType;

std::vector<spec::ArrayDeclaration> Declarations() {
  const std::string p = "layer.{layer}.";
  std::vector<spec::ArrayDeclaration> all = {
      {p + "thresholds",
       DType::kFloat64,
       {"H"},
       "1",
       "The thresholds that the shares below are for."},
      {p + "fraction",
       DType::kFloat64,
       {"H"},
       "1",
       "Share of |a| above each threshold, over all tokens, experts, neurons."},
      {p + "fraction_routed",
       DType::kFloat64,
       {"H"},
       "1",
       "The same over the pairs of a token and an expert it is routed to."},
      {p + "expert_fraction",
       DType::kFloat64,
       {"E", "H"},
       "1",
       "Share of |a| above each threshold, by expert, over all tokens."},
      {p + "expert_fraction_routed",
       DType::kFloat64,
       {"E", "H"},
       "1",
       "The same over the tokens routed to the expert; 0 where there are "
       "none."},
      {p + "routed_tokens",
       DType::kInt64,
       {"E"},
       "tokens",
       "Tokens routed to each expert."},
      {p + "tokens", DType::kInt64, {}, "tokens", "Tokens seen."},
      {p + "near_threshold",
       DType::kInt64,
       {},
       "1",
       "Values with ||a| - threshold| < 1e-6, over all thresholds: how far "
       "counts may move under rounding."},
      {p + "nonfinite",
       DType::kInt64,
       {"E"},
       "1",
       "Activations that are NaN or infinite."},
      {p + "histogram_edges",
       DType::kFloat64,
       {"*"},
       "1",
       "Edges of the histogram's bins."},
      {p + "histogram",
       DType::kInt64,
       {"E", "*"},
       "1",
       "Counts of a by expert: below the first edge, in each bin [edge, next "
       "edge), at or above the last edge."},
      {p + "neuron.top_tokens",
       DType::kInt64,
       {"E", "F", "*"},
       "token",
       "Positions of the tokens of largest a, by neuron; ties to the earlier; "
       "-1 where there is none."},
      {p + "neuron.top_values",
       DType::kFloat32,
       {"E", "F", "*"},
       "1",
       "The largest a, by neuron, falling; NaN where there is none."},
      {"total.fraction",
       DType::kFloat64,
       {"H"},
       "1",
       "Mean over the layers of fraction."},
      {"total.fraction_routed",
       DType::kFloat64,
       {"H"},
       "1",
       "Mean over the layers of fraction_routed."},
  };
  const auto add_moments = [&](const std::string& group,
                               const std::string& over) {
    const std::vector<std::string> shape = {"E", "F"};
    const auto add = [&](const char* name, const std::string& what) {
      all.push_back({p + group + name, DType::kFloat32, shape, "1",
                     what + ", by neuron, " + over});
    };
    add("frequency", "Share of tokens with |a| above the first threshold");
    add("mean", "Mean of a");
    add("mean_abs", "Mean of |a|");
    add("max", "Largest a");
    add("second_moment", "Mean of a squared");
  };
  add_moments("neuron.", "over all tokens.");
  add_moments("neuron_routed.",
              "over the tokens routed to the expert; 0 where there are none.");
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
        "Low, high and number of edges (2 to 10001) of equal bins, with "
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
