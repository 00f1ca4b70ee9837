#include <string>

#include "moescope/base/status_macros.h"
#include "server/model/families/deepseek_experts_internal.h"
#include "server/model/quote_name_internal.h"

// DeepSeek-V2 (transformers 5.23, modeling_deepseek_v2.py): latent attention;
// softmax, top K among all experts or among those of the groups whose best
// expert scores highest; weights times a factor and never divided by their sum:
// norm_topk_prob, false in all releases, means nothing, as in transformers.

namespace moescope::model::internal {
namespace {

constexpr DeepseekExpertDefaults kAbsent = {0, 2, 0};

}  // namespace

absl::Status ParseDeepseekV2(const ConfigReader& json, ModelConfig& config) {
  config.family = "deepseek_v2";
  MOESCOPE_RETURN_IF_ERROR(
      ParseLatentDecoder(json, DeepseekDecoderDefaults(2048), config));
  MOESCOPE_RETURN_IF_ERROR(ParseDeepseekExperts(json, kAbsent, config));
  MOESCOPE_RETURN_IF_ERROR(json.RequireString("scoring_func", {"softmax"}));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.router.scaling,
      json.PositiveRealOr("routed_scaling_factor", 1.0));
  MOESCOPE_ASSIGN_OR_RETURN(const std::string method,
                            json.StringOr("topk_method", "greedy"));
  if (method == "greedy") {
    config.router.rule = "softmax_topk";
    return absl::OkStatus();
  }
  if (method != "group_limited_greedy") {
    return json.NotSupported("topk_method", QuoteName(method),
                             "greedy, group_limited_greedy are");
  }
  config.router.rule = "group_limited_greedy";
  config.router.masked_groups_are_zero = true;
  return ParseDeepseekGroups(json, 1, config);
}

Family DeepseekV2Family() {
  return {"deepseek_v2", {"deepseek_v2"}, &ParseDeepseekV2, &BindDeepseekBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
