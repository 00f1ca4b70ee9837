#include <optional>
#include <string>

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/families/rope_config_internal.h"
#include "server/model/families/stacked_experts_internal.h"

// GPT-OSS 20b and 120b (transformers 5.23, modeling_gpt_oss.py): softmax over
// the chosen logits alone, biases everywhere, a clamped activation, attention
// sinks, windowed and full attention by turns. Experts are stacked: MXFP4
// blocks [E, out, in], or plain numbers [E, in, out]; gate and up interleaved.

namespace moescope::model::internal {
namespace {

// Windowed and full by turns where config.json has no list.
absl::Status ParseWindows(const ConfigReader& json, ModelConfig& config) {
  if (json.Has("layer_types")) return ParseLayerTypes(json, config);
  for (std::size_t i = 1; i < config.layers.size(); i += 2) {
    config.layers[i].sliding_window = std::nullopt;
  }
  return absl::OkStatus();
}

// What transformers 5.23 takes where config.json has no rope_parameters and no
// rope_scaling, or null for them. (Version 4 takes plain rotation for null.)
absl::Status AssumeReleasedRope(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> object,
                            RopeObject(json));
  if (object.has_value()) return absl::OkStatus();
  RopeConfig& rope = config.rope;
  rope.kind = "yarn";
  rope.factor = 32;
  rope.original_positions = 4096;
  rope.beta_fast = 32;
  rope.beta_slow = 1;
  rope.truncate = false;
  rope.attention_factor = YarnMagnitude(rope.factor, 1);
  return absl::OkStatus();
}

absl::Status ParseGptOss(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults;
  defaults.rope_theta = 150000.0;
  defaults.num_kv_heads = 8;
  defaults.assumed_head_dim = 64;
  defaults.sliding_window = 128;
  defaults.norm_epsilon = 1e-5;
  defaults.max_positions = 131072;
  defaults.quantisations = {Quantisation::kMxfp4};
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  ForForwardAlone(AssumeReleasedRope(json, config), config);
  ForForwardAlone(ParseWindows(json, config), config);
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", true));
  config.output_bias = config.qkv_bias;
  config.attention.sinks = true;
  config.activation = Activation::kClampedSwiglu;
  MOESCOPE_ASSIGN_OR_RETURN(config.swiglu_limit,
                            json.PositiveRealOr("swiglu_limit", 7.0));
  MOESCOPE_ASSIGN_OR_RETURN(config.swiglu_alpha,
                            json.PositiveRealOr("swiglu_alpha", 1.702));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.num_experts,
      ExpertCount(json, "num_local_experts"));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.Integer("intermediate_size", kFeedForwardRange));
  config.router.rule = "topk_softmax";
  MOESCOPE_ASSIGN_OR_RETURN(
      config.router.experts_per_token,
      json.AgreedInteger({"num_experts_per_tok", "experts_per_token"},
                         {1, config.num_experts}));
  for (LayerConfig& layer : config.layers) layer.is_moe = true;
  return absl::OkStatus();
}

absl::Status BindGptOssBlocks(const TensorBinder& binder,
                              ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string block = LayerPrefix(i) + "mlp.";
    const std::string gate_up = block + "experts.gate_up_proj";
    const std::string down = block + "experts.down_proj";
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.router, binder.RequireLinear(block + "router", config.num_experts,
                                           config.width, /*has_bias=*/true));
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.experts, config.quantisation == Quantisation::kMxfp4
                           ? BindMxfp4Experts(binder, gate_up, down)
                           : BindTransposedExperts(binder, gate_up, down,
                                                   GateUpOrder::kInterleaved));
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.expert_biases,
        BindExpertBiases(binder, gate_up + "_bias", down + "_bias",
                         GateUpOrder::kInterleaved));
  }
  return absl::OkStatus();
}

}  // namespace

Family GptOssFamily() {
  return {"gpt_oss", {"gpt_oss"}, &ParseGptOss, &BindGptOssBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
