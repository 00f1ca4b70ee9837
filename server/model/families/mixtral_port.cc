#include "server/model/families/mixtral_port_internal.h"

#include <optional>

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {

absl::Status ParseMixtralPort(const ConfigReader& json,
                              std::int64_t num_experts, ModelConfig& config) {
  config.family = "mixtral";
  config.num_experts = num_experts;
  // Its class knows of no window, and the released config.json names none.
  if (!json.Mentions("sliding_window")) {
    for (LayerConfig& layer : config.layers) {
      layer.sliding_window = std::nullopt;
    }
  }
  config.router.rule = "topk_softmax";
  config.router.renormalise = true;
  MOESCOPE_ASSIGN_OR_RETURN(
      config.router.experts_per_token,
      json.AgreedInteger({"num_experts_per_tok", "num_experts_per_token"},
                         {1, config.num_experts}));
  config.expert_width = config.dense_width;
  config.dense_width = 0;
  for (LayerConfig& layer : config.layers) layer.is_moe = true;
  return absl::OkStatus();
}

absl::Status BindMixtralPort(const TensorBinder& binder,
                             ModelTensors& tensors) {
  for (std::int64_t i = 0; i < binder.config().num_layers; ++i) {
    MOESCOPE_RETURN_IF_ERROR(BindRouterAndExperts(
        binder, LayerPrefix(i) + "mlp.", "gate", kMixtralNames,
        tensors.layers[static_cast<std::size_t>(i)]));
  }
  return absl::OkStatus();
}

}  // namespace moescope::model::internal
