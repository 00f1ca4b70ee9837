#include "server/model/families/deepseek_experts_internal.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {

DecoderDefaults DeepseekDecoderDefaults(std::int64_t max_positions) {
  DecoderDefaults defaults;
  defaults.norm_epsilon = 1e-6;
  defaults.max_positions = max_positions;
  return defaults;
}

absl::Status ParseDeepseekExperts(const ConfigReader& json,
                                  const DeepseekExpertDefaults& defaults,
                                  ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(config.dense_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.num_experts,
                            ExpertCount(json, "n_routed_experts"));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.Integer("moe_intermediate_size", kFeedForwardRange));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.num_shared_experts,
      json.IntegerOr("n_shared_experts",
                     json.Mentions("n_shared_experts") ? 0
                                                       : defaults.num_shared,
                     {0, kExpertRange.max}));
  config.shared_width = config.num_shared_experts * config.expert_width;
  MOESCOPE_RETURN_IF_ERROR(
      ParseExpertsPerToken(json, defaults.experts_per_token, config));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t first_moe,
      json.IntegerOr("first_k_dense_replace", defaults.first_moe,
                     {0, kLayerRange.max}));
  for (std::int64_t i = first_moe; i < config.num_layers; ++i) {
    config.layers[static_cast<std::size_t>(i)].is_moe = true;
  }
  return json.RequireBool("mlp_bias", false);
}

absl::Status ParseDeepseekGroups(const ConfigReader& json,
                                 std::int64_t smallest_group,
                                 ModelConfig& config) {
  RouterConfig& router = config.router;
  // Version 3 has numbers of its own where the keys are absent.
  const bool assumes = router.rule == "noaux_tc";
  if (assumes && !json.Has("n_group")) {
    router.num_groups = 8;
  } else {
    MOESCOPE_ASSIGN_OR_RETURN(router.num_groups,
                              json.Integer("n_group", {1, config.num_experts}));
  }
  if (assumes && !json.Has("topk_group")) {
    router.groups_kept = std::min<std::int64_t>(4, router.num_groups);
  } else {
    MOESCOPE_ASSIGN_OR_RETURN(
        router.groups_kept, json.Integer("topk_group", {1, router.num_groups}));
  }
  const std::int64_t size = config.num_experts / router.num_groups;
  if (config.num_experts % router.num_groups != 0 || size < smallest_group) {
    return absl::DataLossError(absl::StrCat(
        "n_group: is ", router.num_groups, ", must divide n_routed_experts ",
        config.num_experts, " into groups of at least ", smallest_group));
  }
  if (router.groups_kept * size < router.experts_per_token) {
    return absl::DataLossError(absl::StrCat(
        "topk_group: is ", router.groups_kept, ", which leaves ",
        router.groups_kept * size, " experts for num_experts_per_tok ",
        router.experts_per_token));
  }
  return absl::OkStatus();
}

absl::Status BindDeepseekBlocks(const TensorBinder& binder,
                                ModelTensors& tensors) {
  MOESCOPE_RETURN_IF_ERROR(BindPlainBlocks(binder, tensors));
  const ModelConfig& config = binder.config();
  for (const std::int64_t i : config.MoeLayers()) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string block = LayerPrefix(i) + "mlp.";
    if (config.num_shared_experts > 0) {
      MOESCOPE_ASSIGN_OR_RETURN(
          layer.shared, BindBlock(binder, block + "shared_experts.",
                                  kPlainNames, config.shared_width));
    }
    if (config.router.corrected) {
      MOESCOPE_ASSIGN_OR_RETURN(
          layer.router_correction,
          binder.Require(block + "gate.e_score_correction_bias",
                         {config.num_experts}));
    }
  }
  return absl::OkStatus();
}

}  // namespace moescope::model::internal
