#include "moescope/base/status_macros.h"
#include "server/model/families/deepseek_experts_internal.h"

// DeepSeek-V3 and R1 (transformers 5.23, modeling_deepseek_v3.py): latent
// attention; sigmoid, choice by score plus a bias, groups by the sum of their
// two best, weights divided by their sum and times a factor.

namespace moescope::model::internal {
namespace {

constexpr DeepseekExpertDefaults kAbsent = {8, 1, 3};

absl::Status ParseDeepseekV3(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(
      ParseLatentDecoder(json, DeepseekDecoderDefaults(4096), config));
  MOESCOPE_RETURN_IF_ERROR(ParseDeepseekExperts(json, kAbsent, config));
  MOESCOPE_RETURN_IF_ERROR(json.RequireString("scoring_func", {"sigmoid"}));
  MOESCOPE_RETURN_IF_ERROR(json.RequireString("topk_method", {"noaux_tc"}));
  config.router.rule = "noaux_tc";
  config.router.corrected = true;
  MOESCOPE_ASSIGN_OR_RETURN(config.router.renormalise,
                            json.BoolOr("norm_topk_prob", true));
  MOESCOPE_ASSIGN_OR_RETURN(config.router.scaling,
                            json.PositiveRealOr("routed_scaling_factor", 2.5));
  return ParseDeepseekGroups(json, 2, config);
}

}  // namespace

Family DeepseekV3Family() {
  return {"deepseek_v3", {"deepseek_v3"}, &ParseDeepseekV3, &BindDeepseekBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
