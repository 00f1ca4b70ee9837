#include "server/model/families/decoder_internal.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/quantisation_internal.h"
#include "server/model/families/rope_config_internal.h"
#include "server/model/families/stacked_experts_internal.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

absl::Status ParseHeads(const ConfigReader& json,
                        const DecoderDefaults& defaults, ModelConfig& config) {
  config.num_heads = defaults.num_heads;
  if (config.num_heads == 0) {
    MOESCOPE_ASSIGN_OR_RETURN(config.num_heads,
                              json.Integer("num_attention_heads", kHeadRange));
  }
  constexpr const char* kKvKey = "num_key_value_heads";
  const bool as_queries = defaults.num_kv_heads == 0 || json.Mentions(kKvKey);
  MOESCOPE_ASSIGN_OR_RETURN(
      config.num_kv_heads,
      json.IntegerOr(kKvKey,
                     as_queries ? config.num_heads : defaults.num_kv_heads,
                     kHeadRange));
  if (config.num_heads % config.num_kv_heads != 0) {
    return absl::DataLossError(absl::StrCat(
        "num_key_value_heads: is ", config.num_kv_heads,
        ", must divide num_attention_heads ", config.num_heads));
  }
  if (defaults.head_dim != 0) {
    config.head_dim = defaults.head_dim;
    return absl::OkStatus();
  }
  MOESCOPE_ASSIGN_OR_RETURN(std::optional<std::int64_t> head_dim,
                            json.OptionalInteger("head_dim", kWidthRange));
  if (defaults.assumed_head_dim != 0 && !json.Mentions("head_dim")) {
    head_dim = defaults.assumed_head_dim;
  }
  if (!head_dim.has_value() && config.width % config.num_heads != 0) {
    return absl::DataLossError(absl::StrCat(
        "num_attention_heads: is ", config.num_heads,
        ", must divide hidden_size ", config.width, " without a head_dim"));
  }
  config.head_dim = head_dim.value_or(config.width / config.num_heads);
  return absl::OkStatus();
}

// Window of all layers alike.
absl::Status ParseWindow(const ConfigReader& json,
                         const DecoderDefaults& defaults, LayerConfig& layer) {
  if (defaults.window_needs_switch) {
    MOESCOPE_ASSIGN_OR_RETURN(const bool used,
                              json.BoolOr("use_sliding_window", false));
    if (!used) return absl::OkStatus();
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      layer.sliding_window,
      json.OptionalInteger("sliding_window", kPositionRange));
  if (!json.Mentions("sliding_window")) {
    layer.sliding_window = defaults.sliding_window;
  }
  return absl::OkStatus();
}

absl::Status BindQueryKeyNorms(const TensorBinder& binder,
                               const std::string& prefix,
                               AttentionTensors& attention) {
  const ModelConfig& config = binder.config();
  const QueryKeyNorm kind = config.attention.query_key_norm;
  if (kind != QueryKeyNorm::kPerHead && kind != QueryKeyNorm::kFullWidth) {
    return absl::OkStatus();
  }
  const bool full = kind == QueryKeyNorm::kFullWidth;
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.q_norm.weight,
      binder.Require(prefix + "q_norm.weight",
                     {config.head_dim * (full ? config.num_heads : 1)}));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.k_norm.weight,
      binder.Require(prefix + "k_norm.weight",
                     {config.head_dim * (full ? config.num_kv_heads : 1)}));
  return absl::OkStatus();
}

absl::Status BindAttention(const TensorBinder& binder, const std::string& layer,
                           AttentionTensors& attention) {
  const ModelConfig& config = binder.config();
  if (config.attention.kind == AttentionKind::kMixture) {
    return BindMixtureAttention(binder, layer + "self_attention.", attention);
  }
  const std::string prefix = layer + "self_attn.";
  if (config.attention.kind == AttentionKind::kLatent) {
    return BindLatentAttention(binder, prefix, attention);
  }
  const std::int64_t queries = config.num_heads * config.head_dim;
  const std::int64_t keys = config.num_kv_heads * config.head_dim;
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.q, binder.RequireLinear(prefix + "q_proj", queries,
                                        config.width, config.qkv_bias));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.k, binder.RequireLinear(prefix + "k_proj", keys, config.width,
                                        config.qkv_bias));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.v, binder.RequireLinear(prefix + "v_proj", keys, config.width,
                                        config.qkv_bias));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.o, binder.RequireLinear(prefix + "o_proj", config.width,
                                        queries, config.output_bias));
  if (config.attention.sinks) {
    MOESCOPE_ASSIGN_OR_RETURN(
        attention.sinks, binder.Require(prefix + "sinks", {config.num_heads}));
  }
  return BindQueryKeyNorms(binder, prefix, attention);
}

}  // namespace

absl::Status ParseDecoder(const ConfigReader& json,
                          const DecoderDefaults& defaults,
                          ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(
      ParseQuantisation(json, defaults.quantisations, config));
  if (!defaults.own_activation) {
    // Two names of one function.
    MOESCOPE_RETURN_IF_ERROR(
        json.RequireString("hidden_act", {"silu", "swish"}));
  }
  MOESCOPE_ASSIGN_OR_RETURN(config.num_layers,
                            json.Integer("num_hidden_layers", kLayerRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.width,
                            json.Integer("hidden_size", kWidthRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.vocab_size,
                            json.Integer("vocab_size", kVocabRange));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.max_positions,
      defaults.max_positions == 0
          ? json.Integer("max_position_embeddings", kPositionRange)
          : json.IntegerOr("max_position_embeddings", defaults.max_positions,
                           kPositionRange));
  MOESCOPE_RETURN_IF_ERROR(ParseHeads(json, defaults, config));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.norm_epsilon,
      defaults.norm_epsilon == 0
          ? json.PositiveReal("rms_norm_eps")
          : json.PositiveRealOr("rms_norm_eps", defaults.norm_epsilon));
  RopeBase rope;
  rope.theta = defaults.rope_theta;
  rope.head_dim =
      defaults.rope_dim == 0 ? config.head_dim : defaults.rope_dim;
  rope.max_positions = config.max_positions;
  const absl::StatusOr<RopeConfig> parsed = ParseRope(json, rope);
  ForForwardAlone(parsed.status(), config);
  if (parsed.ok()) config.rope = *parsed;
  if (config.rope.kind == "dynamic") {
    // The rule is about sequences beyond max_position_embeddings alone.
    config.max_positions = static_cast<std::int64_t>(
        std::min(static_cast<double>(config.max_positions) * config.rope.factor,
                 static_cast<double>(kPositionRange.max)));
  }
  LayerConfig layer;
  ForForwardAlone(ParseWindow(json, defaults, layer), config);
  config.layers.assign(static_cast<std::size_t>(config.num_layers), layer);
  MOESCOPE_ASSIGN_OR_RETURN(config.tied_embeddings,
                            json.BoolOr("tie_word_embeddings",
                                        defaults.tied_embeddings));
  config.activation = Activation::kSilu;
  return absl::OkStatus();
}

absl::Status ParseLayerTypes(const ConfigReader& json, ModelConfig& config) {
  constexpr const char* kKey = "layer_types";
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> types,
                            json.Strings(kKey));
  if (!json.Has(kKey)) return absl::OkStatus();
  if (types.size() != config.layers.size()) {
    return absl::DataLossError(absl::StrCat(kKey, ": has ", types.size(),
                                            " entries, must have ",
                                            config.layers.size()));
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] == "full_attention") {
      config.layers[i].sliding_window = std::nullopt;
    } else if (types[i] != "sliding_attention") {
      return json.NotSupported(absl::StrCat(kKey, "[", i, "]"),
                               QuoteName(types[i]),
                               "full_attention, sliding_attention are");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::int64_t>> OptionalExpertCount(
    const ConfigReader& json, const char* own, IntegerRange range) {
  return json.OptionalAgreedInteger({own, "num_local_experts", "num_experts",
                                     "n_routed_experts", "moe_num_experts"},
                                    range);
}

absl::StatusOr<std::int64_t> ExpertCount(const ConfigReader& json,
                                         const char* own, IntegerRange range) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> count,
                            OptionalExpertCount(json, own, range));
  // Missing: under its own name.
  return count.has_value() ? *count : json.Integer(own, range);
}

absl::Status ParseExpertsPerToken(const ConfigReader& json,
                                  std::int64_t fallback, ModelConfig& config) {
  constexpr const char* kKey = "num_experts_per_tok";
  const bool assumed = fallback != 0 && !json.Has(kKey);
  if (assumed && fallback > config.num_experts) {
    return absl::DataLossError(absl::StrCat(
        kKey, ": missing, and the default of ", fallback,
        " is more than the ", config.num_experts, " experts"));
  }
  if (assumed) {
    config.router.experts_per_token = fallback;
    return absl::OkStatus();
  }
  MOESCOPE_ASSIGN_OR_RETURN(config.router.experts_per_token,
                            json.Integer(kKey, {1, config.num_experts}));
  return absl::OkStatus();
}

absl::Status ParseSoftmaxExperts(const ConfigReader& json,
                                 std::int64_t experts_per_token,
                                 ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(
      config.num_experts,
      ExpertCount(json, "num_experts"));
  config.router.rule = "softmax_topk";
  MOESCOPE_RETURN_IF_ERROR(
      ParseExpertsPerToken(json, experts_per_token, config));
  MOESCOPE_ASSIGN_OR_RETURN(config.router.renormalise,
                            json.BoolOr("norm_topk_prob", false));
  return absl::OkStatus();
}

std::string LayerPrefix(std::int64_t layer) {
  return absl::StrCat("model.layers.", layer, ".");
}

absl::Status BindEnds(const TensorBinder& binder, const EndNames& names,
                      ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  const std::string embeddings = absl::StrCat(names.embeddings, ".weight");
  const std::string head = names.head;
  MOESCOPE_ASSIGN_OR_RETURN(
      tensors.embeddings,
      binder.Require(embeddings, {config.vocab_size, config.width}));
  MOESCOPE_ASSIGN_OR_RETURN(tensors.final_norm,
                            BindNorm(binder, names.norm, names.norm_suffix));
  tensors.lm_head_is_embeddings = config.tied_embeddings;
  MOESCOPE_ASSIGN_OR_RETURN(
      tensors.lm_head.weight,
      binder.RequireMatrix(
          config.tied_embeddings ? embeddings : head + ".weight",
          config.vocab_size, config.width));
  if (config.head_bias) {
    MOESCOPE_ASSIGN_OR_RETURN(
        tensors.lm_head.bias,
        binder.Require(head + ".bias", {config.vocab_size}));
  }
  return absl::OkStatus();
}

absl::StatusOr<NormTensors> BindNorm(const TensorBinder& binder,
                                     const std::string& name,
                                     const char* suffix) {
  const ModelConfig& config = binder.config();
  NormTensors norm;
  MOESCOPE_ASSIGN_OR_RETURN(norm.weight,
                            binder.Require(name + suffix, {config.width}));
  if (config.norm_bias) {
    MOESCOPE_ASSIGN_OR_RETURN(norm.bias,
                              binder.Require(name + ".bias", {config.width}));
  }
  return norm;
}

absl::Status BindDecoder(const TensorBinder& binder, ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  MOESCOPE_RETURN_IF_ERROR(BindEnds(binder, kLlamaEnds, tensors));
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string prefix = LayerPrefix(i);
    MOESCOPE_ASSIGN_OR_RETURN(layer.input_norm,
                              BindNorm(binder, prefix + "input_layernorm"));
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.post_attention_norm,
        BindNorm(binder, prefix + "post_attention_layernorm"));
    MOESCOPE_RETURN_IF_ERROR(
        BindAttention(binder, prefix, layer.attention));
  }
  return absl::OkStatus();
}

absl::StatusOr<ExpertWeights> BindBlock(const TensorBinder& binder,
                                        const std::string& prefix,
                                        const ProjectionNames& names,
                                        std::int64_t width) {
  const std::int64_t model_width = binder.config().width;
  ExpertWeights block;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const bool is_down = static_cast<Projection>(i) == Projection::kDown;
    MOESCOPE_ASSIGN_OR_RETURN(
        block.projections[i],
        binder.RequireMatrix(absl::StrCat(prefix, names[i], ".weight"),
                             is_down ? model_width : width,
                             is_down ? width : model_width));
  }
  return block;
}

absl::StatusOr<std::vector<ExpertWeights>> BindExperts(
    const TensorBinder& binder, const std::string& prefix,
    const ProjectionNames& names) {
  std::vector<ExpertWeights> experts;
  for (std::int64_t e = 0; e < binder.config().num_experts; ++e) {
    MOESCOPE_ASSIGN_OR_RETURN(
        const ExpertWeights expert,
        BindBlock(binder, absl::StrCat(prefix, e, "."), names,
                  binder.config().expert_width));
    experts.push_back(expert);
  }
  return experts;
}

absl::StatusOr<std::vector<ExpertWeights>> BindFusedExperts(
    const TensorBinder& binder, const std::string& prefix) {
  return BindFusedExperts(binder, prefix + "gate_up_proj",
                          prefix + "down_proj");
}

absl::Status BindRouterAndExperts(const TensorBinder& binder,
                                  const std::string& block, const char* router,
                                  const ProjectionNames& names,
                                  LayerTensors& layer) {
  const ModelConfig& config = binder.config();
  MOESCOPE_ASSIGN_OR_RETURN(
      layer.router, binder.RequireLinear(block + router, config.num_experts,
                                         config.width, /*has_bias=*/false));
  const std::string experts = block + "experts.";
  // By either name: the other is then called missing.
  const bool fused = binder.Has(experts + "gate_up_proj") ||
                     binder.Has(experts + "down_proj");
  MOESCOPE_ASSIGN_OR_RETURN(layer.experts,
                            fused ? BindFusedExperts(binder, experts)
                                  : BindExperts(binder, experts, names));
  return absl::OkStatus();
}

absl::Status BindMixtralBlocks(const TensorBinder& binder,
                               ModelTensors& tensors) {
  for (std::int64_t i = 0; i < binder.config().num_layers; ++i) {
    const std::string newer = LayerPrefix(i) + "mlp.";
    const std::string block = binder.HasUnder(newer)
                                  ? newer
                                  : LayerPrefix(i) + "block_sparse_moe.";
    const bool renamed = binder.Has(block + "router.weight");
    MOESCOPE_RETURN_IF_ERROR(BindRouterAndExperts(
        binder, block, renamed ? "router" : "gate", kMixtralNames,
        tensors.layers[static_cast<std::size_t>(i)]));
  }
  return absl::OkStatus();
}

absl::Status BindPlainBlocks(const TensorBinder& binder,
                             ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string block = LayerPrefix(i) + "mlp.";
    if (config.IsMoeLayer(i)) {
      MOESCOPE_RETURN_IF_ERROR(
          BindRouterAndExperts(binder, block, "gate", kPlainNames, layer));
    } else {
      MOESCOPE_ASSIGN_OR_RETURN(
          layer.dense,
          BindBlock(binder, block, kPlainNames, config.dense_width));
    }
  }
  return absl::OkStatus();
}

}  // namespace moescope::model::internal
