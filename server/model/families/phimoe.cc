#include <string>

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
      json.Integer(json.FirstPresent({"num_local_experts", "num_experts"}),
                   {2, kExpertRange.max}));
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

// transformers 5 calls the block mlp, fuses the experts and has the router
// under another name.
absl::Status BindPhimoeBlocks(const TensorBinder& binder,
                              ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const bool fused = binder.Has(LayerPrefix(i) + "mlp.experts.gate_up_proj");
    const std::string block =
        LayerPrefix(i) + (fused ? "mlp." : "block_sparse_moe.");
    const bool renamed = binder.Has(block + "router.weight");
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.router,
        binder.RequireLinear(block + (renamed ? "router" : "gate"),
                             config.num_experts, config.width,
                             /*has_bias=*/false));
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.experts,
        fused ? BindFusedExperts(binder, block + "experts.")
              : BindExperts(binder, block + "experts.", kMixtralNames));
  }
  return absl::OkStatus();
}

}  // namespace

Family PhimoeFamily() {
  return {"phimoe", {"phimoe"}, &ParsePhimoe, &BindPhimoeBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
