#include <optional>
#include <string>

#include "moescope/base/status_macros.h"
#include "server/model/families/qwen_moe_internal.h"

// Qwen1.5-MoE and Qwen2-MoE: biases on queries, keys and values, and one shared
// expert behind a sigmoid gate.
// Source: transformers 5.23, modeling_qwen2_moe.py.

namespace moescope::model::internal {
namespace {

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
  DecoderDefaults defaults = QwenMoeDefaults();
  defaults.num_kv_heads = 16;
  MOESCOPE_RETURN_IF_ERROR(ParseQwenMoe(json, defaults, 4, config));
  ForForwardAlone(ParseWindows(json, config), config);
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias, json.BoolOr("qkv_bias", true));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.shared_width,
      json.Integer("shared_expert_intermediate_size", kFeedForwardRange));
  config.num_shared_experts = 1;
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

}  // namespace moescope::model::internal
