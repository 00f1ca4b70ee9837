#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/deepseek_experts_internal.h"

// DeepSeekMoE 16B (modeling_deepseek.py of that checkpoint): grouped queries;
// softmax over all experts, top K.

namespace moescope::model::internal {
namespace {

absl::Status ParseVersion1(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(
      ParseDecoder(json, DeepseekDecoderDefaults(2048), config));
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  MOESCOPE_RETURN_IF_ERROR(ParseDeepseekExperts(json, {}, config));
  MOESCOPE_RETURN_IF_ERROR(json.RequireString("scoring_func", {"softmax"}));
  MOESCOPE_RETURN_IF_ERROR(json.RequireString("topk_method", {"greedy"}));
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t groups,
                            json.IntegerOr("n_group", 1, kExpertRange));
  if (groups != 1) {
    return json.NotSupported("n_group", absl::StrCat(groups), "1 is");
  }
  MOESCOPE_ASSIGN_OR_RETURN(const double scaling,
                            json.PositiveRealOr("routed_scaling_factor", 1.0));
  if (scaling != 1.0) {
    return json.NotSupported("routed_scaling_factor", absl::StrCat(scaling),
                             "1 is");
  }
  config.router.rule = "softmax_topk";
  MOESCOPE_ASSIGN_OR_RETURN(const bool renormalise,
                            json.BoolOr("norm_topk_prob", false));
  // A single weight is never divided by itself in this family.
  config.router.renormalise =
      renormalise && config.router.experts_per_token > 1;
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t every,
                            json.IntegerOr("moe_layer_freq", 1, kLayerRange));
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerConfig& layer = config.layers[static_cast<std::size_t>(i)];
    layer.is_moe = layer.is_moe && i % every == 0;
  }
  return absl::OkStatus();
}

// The first published DeepSeek-V2 checkpoints call themselves "deepseek" too.
absl::Status ParseDeepseek(const ConfigReader& json, ModelConfig& config) {
  return json.Has("kv_lora_rank") ? ParseDeepseekV2(json, config)
                                  : ParseVersion1(json, config);
}

}  // namespace

Family DeepseekFamily() {
  return {"deepseek", {"deepseek"}, &ParseDeepseek, &BindDeepseekBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
