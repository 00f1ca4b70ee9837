#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"

// Phi-3.5-MoE (modeling_phimoe.py of that checkpoint): Mixtral's blocks with
// layer norms, biases and the router rule sparsemixer, which makes two picks
// whatever num_experts_per_tok says.

namespace moescope::model::internal {
namespace {

absl::Status ParsePhimoe(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults;
  defaults.rope_theta = 1e6;
  defaults.num_kv_heads = 8;
  defaults.norm_epsilon = 1e-5;
  defaults.max_positions = 131072;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  config.norm = NormKind::kLayer;
  config.norm_bias = true;
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  MOESCOPE_ASSIGN_OR_RETURN(config.head_bias,
                            json.BoolOr("lm_head_bias", false));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.num_experts,
      ExpertCount(json, "num_local_experts", {2, kExpertRange.max}));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.Integer("intermediate_size", kFeedForwardRange));
  config.router.rule = "sparsemixer";
  config.router.experts_per_token = 2;
  MOESCOPE_ASSIGN_OR_RETURN(config.router.jitter,
                            json.NonNegativeRealOr("router_jitter_noise", 0.01));
  for (LayerConfig& layer : config.layers) layer.is_moe = true;
  return absl::OkStatus();
}

}  // namespace

Family PhimoeFamily() {
  return {"phimoe", {"phimoe"}, &ParsePhimoe, &BindMixtralBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
