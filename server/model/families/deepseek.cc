#include <optional>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/quote_name_internal.h"

// DeepSeekMoE 16B (model_type "deepseek", modeling_deepseek.py of that
// checkpoint): the first layers are dense, the others have many small routed
// experts and shared ones, which lie on disk as one wide block.

namespace moescope::model::internal {
namespace {

// The first published DeepSeek-V2 checkpoints call themselves "deepseek" too.
absl::Status RefuseVersion2(const ConfigReader& json) {
  const char* key = json.FirstPresent(
      {"kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"});
  if (json.Has(key)) {
    return absl::UnimplementedError(absl::StrCat(
        key, ": latent attention (deepseek_v2) is not supported"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t groups,
                            json.IntegerOr("n_group", 1, kExpertRange));
  if (groups != 1) {
    return absl::UnimplementedError(
        absl::StrCat("n_group: ", groups, " is not supported (1 is)"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::string method,
                            json.StringOr("topk_method", "greedy"));
  if (method != "greedy") {
    return absl::UnimplementedError(absl::StrCat(
        "topk_method: ", QuoteName(method), " is not supported (greedy is)"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const double scaling,
                            json.PositiveRealOr("routed_scaling_factor", 1.0));
  if (scaling != 1.0) {
    return absl::UnimplementedError(absl::StrCat(
        "routed_scaling_factor: ", scaling, " is not supported (1 is)"));
  }
  return absl::OkStatus();
}

absl::Status ParseRouter(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::string scoring,
                            json.StringOr("scoring_func", "softmax"));
  if (scoring != "softmax") {
    return absl::UnimplementedError(absl::StrCat(
        "scoring_func: ", QuoteName(scoring), " is not supported (softmax is)"));
  }
  config.router.rule = "softmax_topk";
  MOESCOPE_ASSIGN_OR_RETURN(
      config.router.experts_per_token,
      json.Integer("num_experts_per_tok", {1, config.num_experts}));
  MOESCOPE_ASSIGN_OR_RETURN(const bool renormalise,
                            json.BoolOr("norm_topk_prob", false));
  // A single weight is never divided by itself in this family.
  config.router.renormalise =
      renormalise && config.router.experts_per_token > 1;
  return absl::OkStatus();
}

absl::Status ParseExperts(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(config.num_experts,
                            json.Integer("n_routed_experts", kExpertRange));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.Integer("moe_intermediate_size", kFeedForwardRange));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.num_shared_experts,
      json.IntegerOr("n_shared_experts", 0, {0, kExpertRange.max}));
  config.shared_width = config.num_shared_experts * config.expert_width;
  MOESCOPE_RETURN_IF_ERROR(ParseRouter(json, config));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t first_moe,
      json.IntegerOr("first_k_dense_replace", 0, {0, kLayerRange.max}));
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t every,
                            json.IntegerOr("moe_layer_freq", 1, kLayerRange));
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    config.layers[static_cast<std::size_t>(i)].is_moe =
        i >= first_moe && i % every == 0;
  }
  return absl::OkStatus();
}

absl::Status ParseDeepseek(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(RefuseVersion2(json));
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, DecoderDefaults(), config));
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  MOESCOPE_ASSIGN_OR_RETURN(config.dense_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  return ParseExperts(json, config);
}

absl::Status BindMoeLayer(const TensorBinder& binder, const std::string& block,
                          LayerTensors& layer) {
  const ModelConfig& config = binder.config();
  MOESCOPE_ASSIGN_OR_RETURN(
      layer.router.weight,
      binder.RequireMatrix(block + "gate.weight", config.num_experts,
                           config.width));
  MOESCOPE_ASSIGN_OR_RETURN(
      layer.experts, BindExperts(binder, block + "experts.", kPlainNames));
  if (config.num_shared_experts == 0) return absl::OkStatus();
  MOESCOPE_ASSIGN_OR_RETURN(
      layer.shared, BindBlock(binder, block + "shared_experts.", kPlainNames,
                              config.shared_width));
  return absl::OkStatus();
}

absl::Status BindDeepseekBlocks(const TensorBinder& binder,
                               ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string block = LayerPrefix(i) + "mlp.";
    if (config.IsMoeLayer(i)) {
      MOESCOPE_RETURN_IF_ERROR(BindMoeLayer(binder, block, layer));
    } else {
      MOESCOPE_ASSIGN_OR_RETURN(
          layer.dense,
          BindBlock(binder, block, kPlainNames, config.dense_width));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Family DeepseekFamily() {
  return {"deepseek", {"deepseek"}, &ParseDeepseek, &BindDeepseekBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
