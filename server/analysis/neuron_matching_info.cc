#include <string>
#include <vector>

#include "server/analysis/parameters_internal.h"

#include "moescope/analysis/neuron_matching.h"

namespace moescope::analysis {
namespace {

using spec::ArrayDeclaration;
using spec::DType;

// What "joint" has for each projection and a projection for itself.
std::vector<ArrayDeclaration> Flattened(const std::string& prefix) {
  const auto real = DType::kFloat64;
  return {
      {prefix + "cosine_before", real, {"P"}, "1",
       "Cosine of the flattened matrices as they are."},
      {prefix + "cosine_after", real, {"P"}, "1",
       "The same after the second one's neurons are put in matched order."},
      {prefix + "growth", real, {"P"}, "1", "cosine_after - cosine_before."},
      {prefix + "growth_ratio", real, {"P"}, "1",
       "cosine_after / cosine_before."},
  };
}

std::vector<ArrayDeclaration> OfPart(const std::string& prefix) {
  const auto real = DType::kFloat64;
  const auto count = DType::kInt64;
  return {
      {prefix + "permutation", count, {"P", "F"}, "neuron",
       "Neuron of the second expert matched to neuron i of the first; -1 where "
       "a weight is not finite. Others may be as good."},
      {prefix + "objective", real, {"P"}, "1", "Sum of the matched cosines."},
      {prefix + "mean_matched_cosine", real, {"P"}, "1",
       "objective / F, of joint / 3F."},
      {prefix + "kendall_tau", real, {"P"}, "1",
       "Kendall's tau of the permutation with the identity."},
      {prefix + "fixed_points", count, {"P"}, "neurons",
       "Neurons matched with the same index."},
      {prefix + "objective_quantised", count, {"P"}, "2^-28",
       "The objective over cosines rounded to multiples of 2^-28, exact."},
      {prefix + "dual_quantised", count, {"P"}, "2^-28",
       "An upper bound on the objective of any permutation, exact."},
      {prefix + "gap", count, {"P"}, "2^-28",
       "dual_quantised - objective_quantised: 0, proven optimal."},
      {prefix + "nonfinite", count, {"P"}, "1",
       "Weights of the two that are NaN or infinite; then reals are NaN."},
      {prefix + "z", real, {"P"}, "1",
       "(mean_matched_cosine - null mean) / null standard deviation."},
  };
}

std::vector<ArrayDeclaration> OfLayer() {
  const std::string prefix = "layer.{layer}.";
  const auto real = DType::kFloat64;
  return {
      {"participants", DType::kInt64, {"N"}, "expert",
       "Who takes part: expert numbers, -1 for S, -2 for F."},
      {prefix + "pairs", DType::kInt64, {"P", "2"}, "1",
       "Places of both among the participants."},
      {prefix + "kendall_tau_null_se", real, {}, "1",
       "Standard deviation of kendall_tau over random permutations."},
      {prefix + "null_rule_of_thumb", real, {}, "1",
       "0.85 sqrt(2 ln F / D), near null.single_mean."},
      {prefix + "null.single_mean", real, {}, "1",
       "Mean of mean_matched_cosine over Gaussian experts, one projection."},
      {prefix + "null.single_sd", real, {}, "1", "Its standard deviation."},
      {prefix + "null.joint_mean", real, {}, "1", "The same for joint."},
      {prefix + "null.joint_sd", real, {}, "1", "Its standard deviation."},
      {prefix + "null.single_error", real, {}, "1",
       "How far null.single_mean may be off where it is extrapolated."},
      {prefix + "null.joint_error", real, {}, "1",
       "How far null.joint_mean may be off where it is extrapolated."},
      {prefix + "null.single_sd_error", real, {}, "1",
       "How far null.single_sd may be off where it is extrapolated."},
      {prefix + "null.joint_sd_error", real, {}, "1",
       "How far null.joint_sd may be off where it is extrapolated."},
      {prefix + "null.simulated_width", DType::kInt64, {}, "neurons",
       "Largest width drawn; less than F: means are extrapolated in "
       "sqrt(2 ln F), standard deviations as F^-0.63."},
  };
}

void Append(std::vector<ArrayDeclaration> more,
            std::vector<ArrayDeclaration>& all) {
  all.insert(all.end(), more.begin(), more.end());
}

}  // namespace

spec::AnalysisInfo NeuronMatchingInfo() {
  using Spec = spec::NeuronMatchingSpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary = "Which neurons of two experts belong together.";
  info.definition =
      "The permutation of the second expert's neurons that maximises the sum "
      "of cosines with the first one's (exact linear assignment, proven by its "
      "dual), for each projection and jointly for the sum of the three; cosine "
      "of the flattened matrices before and after; Kendall's tau of the "
      "permutation; the same for Gaussian experts of this shape as null. Above "
      "2048 neurons the null is extrapolated from narrower ones. On a GPU the "
      "cosines and the passes over all pairs of neurons run there; of several "
      "optimal permutations it may return another one.";
  info.source = "arXiv 2406.18219, section 4.1.2 (reordering) and Table 2";
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"layers", internal::kLayersMeaning},
       {"projections",
        "Among gate_proj, up_proj, down_proj, joint; empty: all."},
       {"participants",
        absl::StrCat(internal::kParticipantsMeaning,
                     " S and F are left out where they have another number of "
                     "neurons than a routed expert, and refused where they are "
                     "named.")},
       {"include_shared", internal::kIncludeSharedMeaning},
       {"baseline", internal::kBaselineMeaning},
       {"pairs",
        "Pairs of places among the participants, as [[0,1],[2,5]]; with all "
        "routed experts a place is an expert's number; empty: all pairs."},
       {"null_draws",
        "Matchings of Gaussian experts drawn for the null, 2 to 1000; 0: no "
        "null."},
       {"null_seed", "Seed of the draws, from 0 on."}});
  std::vector<ArrayDeclaration>& arrays = info.schema.arrays;
  Append(OfLayer(), arrays);
  Append(OfPart("layer.{layer}.{projection}."), arrays);
  Append(Flattened("layer.{layer}.{projection}."), arrays);
  Append(OfPart("layer.{layer}.joint."), arrays);
  Append(Flattened("layer.{layer}.joint.{projection}."), arrays);
  return info;
}

}  // namespace moescope::analysis
