#include "server/model/families/mixtral_port_internal.h"

#include <optional>

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

const char* CountKey(const ConfigReader& json) {
  return ExpertCountKey(json, "num_local_experts");
}

}  // namespace

bool IsMixtralPort(const ConfigReader& json) {
  return json.Has(CountKey(json));
}

absl::Status ParseMixtralPort(const ConfigReader& json, ModelConfig& config) {
  config.family = "mixtral";
  // Its class knows of no window, and the released config.json names none.
  if (!json.Mentions("sliding_window")) {
    for (LayerConfig& layer : config.layers) {
      layer.sliding_window = std::nullopt;
    }
  }
  MOESCOPE_ASSIGN_OR_RETURN(config.num_experts,
                            json.Integer(CountKey(json), kExpertRange));
  config.router.rule = "topk_softmax";
  config.router.renormalise = true;
  MOESCOPE_ASSIGN_OR_RETURN(
      config.router.experts_per_token,
      json.Integer(json.FirstPresent(
                       {"num_experts_per_tok", "num_experts_per_token"}),
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
