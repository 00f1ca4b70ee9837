#include <algorithm>
#include <vector>

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"

// Qwen1.5-MoE and Qwen2-MoE (model_type "qwen2_moe"): biases on queries, keys
// and values, and one shared expert behind a sigmoid gate. Qwen3-MoE
// ("qwen3_moe"): norms of each head's queries and keys, no shared expert. Both
// route by softmax over all experts, top K; dense layers by decoder_sparse_step
// and mlp_only_layers.
// Source: transformers 5.23, modeling_qwen2_moe.py, modeling_qwen3_moe.py.

namespace moescope::model::internal {
namespace {

absl::Status ParseLayerKinds(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t step,
      json.IntegerOr("decoder_sparse_step", 1, kLayerRange));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<std::int64_t> dense,
      json.Integers("mlp_only_layers", {0, kLayerRange.max}));
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    config.layers[static_cast<std::size_t>(i)].is_moe =
        (i + 1) % step == 0 &&
        std::find(dense.begin(), dense.end(), i) == dense.end();
  }
  return absl::OkStatus();
}

DecoderDefaults QwenDefaults() {
  DecoderDefaults defaults;
  defaults.norm_epsilon = 1e-6;
  defaults.max_positions = 32768;
  defaults.sliding_window = 4096;
  defaults.window_needs_switch = true;
  return defaults;
}

absl::Status ParseCommon(const ConfigReader& json,
                         const DecoderDefaults& defaults,
                         std::int64_t experts_per_token, ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  MOESCOPE_RETURN_IF_ERROR(
      ParseSoftmaxExperts(json, experts_per_token, config));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.Integer("moe_intermediate_size", kFeedForwardRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.dense_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  return ParseLayerKinds(json, config);
}

// Without layer_types, of the layers before max_window_layers every second has
// the window, the first one among them; the others see everything.
// Source: Qwen2MoeConfig of transformers 5, configuration_qwen2_moe.py.
absl::Status ParseWindows(const ConfigReader& json, ModelConfig& config) {
  constexpr std::int64_t kDefaultWindowLayers = 28;
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t end,
      json.IntegerOr("max_window_layers", kDefaultWindowLayers,
                     {0, kLayerRange.max}));
  if (json.Has("layer_types")) return ParseLayerTypes(json, config);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    if (i % 2 != 0 || i >= end) {
      config.layers[static_cast<std::size_t>(i)].sliding_window = std::nullopt;
    }
  }
  return absl::OkStatus();
}

absl::Status ParseQwen2Moe(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults = QwenDefaults();
  defaults.num_kv_heads = 16;
  MOESCOPE_RETURN_IF_ERROR(ParseCommon(json, defaults, 4, config));
  ForForwardAlone(ParseWindows(json, config), config);
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias, json.BoolOr("qkv_bias", true));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.shared_width,
      json.Integer("shared_expert_intermediate_size", kFeedForwardRange));
  config.num_shared_experts = 1;
  return absl::OkStatus();
}

absl::Status ParseQwen3Moe(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults = QwenDefaults();
  defaults.num_kv_heads = 4;
  MOESCOPE_RETURN_IF_ERROR(ParseCommon(json, defaults, 8, config));
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  config.attention.query_key_norm = QueryKeyNorm::kPerHead;
  config.attention.query_key_norm_epsilon = config.norm_epsilon;
  return absl::OkStatus();
}

absl::Status BindShared(const TensorBinder& binder, const std::string& block,
                        LayerTensors& layer) {
  MOESCOPE_ASSIGN_OR_RETURN(
      layer.shared, BindBlock(binder, block + "shared_expert.", kPlainNames,
                              binder.config().shared_width));
  MOESCOPE_ASSIGN_OR_RETURN(
      layer.shared_gate,
      binder.RequireLinear(block + "shared_expert_gate", 1,
                           binder.config().width, /*has_bias=*/false));
  return absl::OkStatus();
}

absl::Status BindQwen2MoeBlocks(const TensorBinder& binder,
                                ModelTensors& tensors) {
  MOESCOPE_RETURN_IF_ERROR(BindPlainBlocks(binder, tensors));
  const ModelConfig& config = binder.config();
  for (const std::int64_t i : config.MoeLayers()) {
    MOESCOPE_RETURN_IF_ERROR(
        BindShared(binder, LayerPrefix(i) + "mlp.",
                   tensors.layers[static_cast<std::size_t>(i)]));
  }
  return absl::OkStatus();
}

}  // namespace

Family Qwen2MoeFamily() {
  return {"qwen2_moe", {"qwen2_moe"}, &ParseQwen2Moe, &BindQwen2MoeBlocks,
          &BindDecoder};
}

Family Qwen3MoeFamily() {
  return {"qwen3_moe", {"qwen3_moe"}, &ParseQwen3Moe, &BindPlainBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
