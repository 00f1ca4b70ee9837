#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/quote_name_internal.h"

// DeepSeek's expert models: the first layers are dense, the others have many
// small routed experts and shared ones, which lie on disk as one wide block.
//   deepseek     DeepSeekMoE 16B (modeling_deepseek.py of that checkpoint):
//                grouped queries; softmax, top K
//   deepseek_v2  latent attention; softmax, top K among all experts or among
//                those of the groups whose best expert scores highest; weights
//                times a factor. norm_topk_prob true runs no forward pass: the
//                publisher's code then divides by the sum instead of scaling,
//                DeepSeek-VL2's does both, transformers neither looks at it
//   deepseek_v3  latent attention; sigmoid, choice by score plus a bias, groups
//                by the sum of their two best, weights divided by their sum
// Source of the latter two: transformers 5.23, modeling_deepseek_v2.py and
// modeling_deepseek_v3.py. Layers beyond num_hidden_layers (V3's multi-token
// prediction) take no part.

namespace moescope::model::internal {
namespace {

absl::Status NotSupported(absl::string_view key, absl::string_view value,
                          absl::string_view allowed) {
  return absl::UnimplementedError(absl::StrCat(key, ": ", value,
                                               " is not supported (", allowed,
                                               " is)"));
}

absl::Status RequireText(const ConfigReader& json, const char* key,
                         const char* expected) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::string value,
                            json.StringOr(key, expected));
  if (value == expected) return absl::OkStatus();
  return NotSupported(key, QuoteName(value), expected);
}

// What the config classes of the versions have where keys are absent.
struct ExpertDefaults {
  std::int64_t experts_per_token = 0;  // 0: the key must be there
  std::int64_t num_shared = 0;
  std::int64_t first_moe = 0;
};
constexpr ExpertDefaults kVersion1 = {};
constexpr ExpertDefaults kVersion2 = {0, 2, 0};
constexpr ExpertDefaults kVersion3 = {8, 1, 3};

DecoderDefaults DeepseekDefaults(std::int64_t max_positions) {
  DecoderDefaults defaults;
  defaults.norm_epsilon = 1e-6;
  defaults.max_positions = max_positions;
  return defaults;
}

// Widths and numbers of experts, and which layers have them.
absl::Status ParseExperts(const ConfigReader& json,
                          const ExpertDefaults& defaults,
                          ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(config.dense_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.num_experts,
                            json.Integer(ExpertCountKey(json,
                                                        "n_routed_experts"),
                                         kExpertRange));
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
  MOESCOPE_ASSIGN_OR_RETURN(const bool mlp_bias,
                            json.BoolOr("mlp_bias", false));
  return mlp_bias ? NotSupported("mlp_bias", "true", "false")
                  : absl::OkStatus();
}

// n_group, topk_group and routed_scaling_factor; `smallest_group` experts must
// be in each group.
absl::Status ParseGroups(const ConfigReader& json, std::int64_t smallest_group,
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

absl::Status ParseVersion1(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, DeepseekDefaults(2048), config));
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  MOESCOPE_RETURN_IF_ERROR(ParseExperts(json, kVersion1, config));
  MOESCOPE_RETURN_IF_ERROR(RequireText(json, "scoring_func", "softmax"));
  MOESCOPE_RETURN_IF_ERROR(RequireText(json, "topk_method", "greedy"));
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t groups,
                            json.IntegerOr("n_group", 1, kExpertRange));
  if (groups != 1) {
    return NotSupported("n_group", absl::StrCat(groups), "1");
  }
  MOESCOPE_ASSIGN_OR_RETURN(const double scaling,
                            json.PositiveRealOr("routed_scaling_factor", 1.0));
  if (scaling != 1.0) {
    return NotSupported("routed_scaling_factor", absl::StrCat(scaling), "1");
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

absl::Status ParseVersion2(const ConfigReader& json, ModelConfig& config) {
  config.family = "deepseek_v2";
  MOESCOPE_RETURN_IF_ERROR(
      ParseLatentDecoder(json, DeepseekDefaults(2048), config));
  MOESCOPE_RETURN_IF_ERROR(ParseExperts(json, kVersion2, config));
  MOESCOPE_RETURN_IF_ERROR(RequireText(json, "scoring_func", "softmax"));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.router.scaling,
      json.PositiveRealOr("routed_scaling_factor", 1.0));
  MOESCOPE_ASSIGN_OR_RETURN(const bool renormalise,
                            json.BoolOr("norm_topk_prob", false));
  // A single weight is never divided by itself in this family.
  if (renormalise && config.router.experts_per_token > 1) {
    ForForwardAlone(NotSupported("norm_topk_prob", "true", "false"), config);
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::string method,
                            json.StringOr("topk_method", "greedy"));
  if (method == "greedy") {
    config.router.rule = "softmax_topk";
    return absl::OkStatus();
  }
  if (method != "group_limited_greedy") {
    return NotSupported("topk_method", QuoteName(method),
                        "greedy, group_limited_greedy");
  }
  config.router.rule = "group_limited_greedy";
  config.router.masked_groups_are_zero = true;
  return ParseGroups(json, 1, config);
}

absl::Status ParseVersion3(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(
      ParseLatentDecoder(json, DeepseekDefaults(4096), config));
  MOESCOPE_RETURN_IF_ERROR(ParseExperts(json, kVersion3, config));
  MOESCOPE_RETURN_IF_ERROR(RequireText(json, "scoring_func", "sigmoid"));
  MOESCOPE_RETURN_IF_ERROR(RequireText(json, "topk_method", "noaux_tc"));
  config.router.rule = "noaux_tc";
  config.router.corrected = true;
  MOESCOPE_ASSIGN_OR_RETURN(config.router.renormalise,
                            json.BoolOr("norm_topk_prob", true));
  MOESCOPE_ASSIGN_OR_RETURN(config.router.scaling,
                            json.PositiveRealOr("routed_scaling_factor", 2.5));
  return ParseGroups(json, 2, config);
}

// The first published DeepSeek-V2 checkpoints call themselves "deepseek" too.
absl::Status ParseDeepseek(const ConfigReader& json, ModelConfig& config) {
  return json.Has("kv_lora_rank") ? ParseVersion2(json, config)
                                  : ParseVersion1(json, config);
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

}  // namespace

Family DeepseekFamily() {
  return {"deepseek", {"deepseek"}, &ParseDeepseek, &BindDeepseekBlocks,
          &BindDecoder};
}

Family DeepseekV2Family() {
  return {"deepseek_v2", {"deepseek_v2"}, &ParseVersion2, &BindDeepseekBlocks,
          &BindDecoder};
}

Family DeepseekV3Family() {
  return {"deepseek_v3", {"deepseek_v3"}, &ParseVersion3, &BindDeepseekBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
