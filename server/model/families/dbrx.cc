#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/families/quantisation_internal.h"
#include "server/model/families/rope_config_internal.h"
#include "server/model/families/stacked_experts_internal.h"

// DBRX (transformers 5.23, modeling_dbrx.py): softmax over all experts, top K,
// weights divided by their L1 norm; layer norms without bias; queries, keys and
// values in one matrix; experts one after another in one matrix per projection,
// the third of them transposed.

namespace moescope::model::internal {
namespace {

// `own`: attn_config, nullptr without one.
absl::Status ParsePositions(const ConfigReader& json, const ConfigReader* own,
                            ModelConfig& config) {
  RopeBase rope;
  rope.head_dim = config.head_dim;
  rope.max_positions = config.max_positions;
  MOESCOPE_ASSIGN_OR_RETURN(config.rope, ParseRope(json, rope));
  if (own == nullptr) return absl::OkStatus();
  // transformers 5 writes a rope_parameters beside it that does not know it.
  MOESCOPE_ASSIGN_OR_RETURN(
      config.rope.theta, own->PositiveRealOr("rope_theta", config.rope.theta));
  if (own->Has("clip_qkv")) {
    MOESCOPE_ASSIGN_OR_RETURN(config.attention.clip_qkv,
                              own->PositiveReal("clip_qkv"));
  }
  return absl::OkStatus();
}

absl::Status ParseAttention(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> own,
                            json.Object("attn_config"));
  MOESCOPE_ASSIGN_OR_RETURN(config.num_heads,
                            json.Integer("n_heads", kHeadRange));
  if (config.width % config.num_heads != 0) {
    return absl::DataLossError(absl::StrCat("n_heads: is ", config.num_heads,
                                            ", must divide d_model ",
                                            config.width));
  }
  config.head_dim = config.width / config.num_heads;
  config.num_kv_heads = 1;
  ForForwardAlone(
      ParsePositions(json, own.has_value() ? &*own : nullptr, config), config);
  if (!own.has_value()) return absl::OkStatus();
  MOESCOPE_ASSIGN_OR_RETURN(config.num_kv_heads,
                            own->IntegerOr("kv_n_heads", 1, kHeadRange));
  if (config.num_heads % config.num_kv_heads != 0) {
    return absl::DataLossError(absl::StrCat(
        "attn_config.kv_n_heads: is ", config.num_kv_heads,
        ", must divide n_heads ", config.num_heads));
  }
  return absl::OkStatus();
}

// The power p of the norm that weights are divided by: 1, or null for none.
absl::Status ParseRenormalisation(const ConfigReader& json,
                                  ModelConfig& config) {
  constexpr const char* kKey = "moe_normalize_expert_weights";
  config.router.renormalise = !json.Mentions(kKey) || json.Has(kKey);
  MOESCOPE_ASSIGN_OR_RETURN(const double power, json.PositiveRealOr(kKey, 1.0));
  if (power == 1.0) return absl::OkStatus();
  return json.NotSupported(kKey, absl::StrCat(power), "1, null are");
}

absl::Status ParseExperts(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> own,
                            json.Object("ffn_config"));
  if (!own.has_value()) return absl::DataLossError("ffn_config: missing");
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> activation,
                            own->Object("ffn_act_fn"));
  if (activation.has_value()) {
    MOESCOPE_RETURN_IF_ERROR(
        activation->RequireString("name", {"silu", "swish"}));
  }
  MOESCOPE_ASSIGN_OR_RETURN(config.expert_width,
                            own->Integer("ffn_hidden_size", kFeedForwardRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.num_experts,
                            ExpertCount(*own, "moe_num_experts"));
  config.router.rule = "softmax_topk";
  MOESCOPE_ASSIGN_OR_RETURN(
      config.router.experts_per_token,
      own->IntegerOr("moe_top_k", 1, {1, config.num_experts}));
  return ParseRenormalisation(*own, config);
}

absl::Status ParseDbrx(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(ParseQuantisation(json, {}, config));
  MOESCOPE_ASSIGN_OR_RETURN(config.num_layers,
                            json.Integer("n_layers", kLayerRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.width, json.Integer("d_model", kWidthRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.vocab_size,
                            json.Integer("vocab_size", kVocabRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.max_positions,
                            json.Integer("max_seq_len", kPositionRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.tied_embeddings,
                            json.BoolOr("tie_word_embeddings", false));
  config.norm = NormKind::kLayer;
  config.norm_epsilon = 1e-5;  // The class's own; config.json has no key.
  LayerConfig layer;
  layer.is_moe = true;
  config.layers.assign(static_cast<std::size_t>(config.num_layers), layer);
  MOESCOPE_RETURN_IF_ERROR(ParseAttention(json, config));
  return ParseExperts(json, config);
}

std::string BlockPrefix(std::int64_t layer) {
  return absl::StrCat("transformer.blocks.", layer, ".");
}

absl::Status BindDbrxBlocks(const TensorBinder& binder, ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string block = BlockPrefix(i) + "ffn.";
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.router,
        binder.RequireLinear(block + "router.layer", config.num_experts,
                             config.width, /*has_bias=*/false));
    const std::string experts = block + "experts.mlp.";
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.experts, BindConcatenatedExperts(binder, experts + "w1",
                                               experts + "v1", experts + "w2"));
  }
  return absl::OkStatus();
}

absl::Status BindAttention(const TensorBinder& binder,
                           const std::string& prefix,
                           AttentionTensors& attention) {
  const ModelConfig& config = binder.config();
  const std::int64_t queries = config.num_heads * config.head_dim;
  const std::int64_t keys = config.num_kv_heads * config.head_dim;
  MOESCOPE_ASSIGN_OR_RETURN(
      const TensorEntry* fused,
      binder.Require(prefix + "Wqkv.weight",
                     {queries + 2 * keys, config.width}));
  const auto rows = [&](std::int64_t first, std::int64_t count) {
    return ViewRows(*fused, first * config.width, count, config.width);
  };
  attention.q.weight = rows(0, queries);
  attention.k.weight = rows(queries, keys);
  attention.v.weight = rows(queries + keys, keys);
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.o, binder.RequireLinear(prefix + "out_proj", config.width,
                                        queries, /*has_bias=*/false));
  return absl::OkStatus();
}

absl::Status BindDbrxRest(const TensorBinder& binder, ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  MOESCOPE_RETURN_IF_ERROR(BindEnds(
      binder, {"transformer.wte", "transformer.norm_f", "lm_head"}, tensors));
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string prefix = BlockPrefix(i) + "norm_attn_norm.";
    MOESCOPE_ASSIGN_OR_RETURN(layer.input_norm,
                              BindNorm(binder, prefix + "norm_1"));
    MOESCOPE_ASSIGN_OR_RETURN(layer.post_attention_norm,
                              BindNorm(binder, prefix + "norm_2"));
    MOESCOPE_RETURN_IF_ERROR(
        BindAttention(binder, prefix + "attn.", layer.attention));
  }
  return absl::OkStatus();
}

}  // namespace

Family DbrxFamily() {
  return {"dbrx", {"dbrx"}, &ParseDbrx, &BindDbrxBlocks, &BindDbrxRest};
}

}  // namespace moescope::model::internal
