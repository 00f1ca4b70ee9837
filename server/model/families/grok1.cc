#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"

// Grok-1 (xai-org/grok-1, model.py): softmax over all experts, top 2, weights
// as they are; four norms per layer; capped attention scores; exact GELU;
// constant factors on embeddings and logits. Two public conversions: hpcai-tech
// (model.layers.…) and keyfan (transformer.decoder_layer.…; model_type "grok").
// Their config.json need not have a model_type; the architecture's name tells
// them.

namespace moescope::model::internal {
namespace {

// How a conversion calls things.
struct Layout {
  EndNames ends;
  const char* layer;  // prefix, before the layer's number
  std::array<const char*, 4> norms;  // attention in and out, block in and out
  const char* norm_suffix;
  std::array<const char*, 4> attention;  // q, k, v, o
  const char* router;
  const char* experts;
};

constexpr Layout kHpcai = {
    {"model.embed_tokens", "model.norm", "lm_head", ".scale"},
    "model.layers.",
    {"pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"},
    ".scale",
    {"attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj"},
    "moe_block.gate",
    "moe_block.experts."};

constexpr Layout kKeyfan = {
    {"transformer.in_out_embed", "transformer.rms_norm", "lm_head", ".weight"},
    "transformer.decoder_layer.",
    {"rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3"},
    ".weight",
    {"multi_head_attention.query", "multi_head_attention.key",
     "multi_head_attention.value", "multi_head_attention.linear"},
    "router",
    "moe."};

// gate, up, down, in both.
constexpr ProjectionNames kGrokNames = {"linear", "linear_v", "linear_1"};

absl::Status ParseGrok1(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults;
  defaults.num_kv_heads = 8;
  defaults.tied_embeddings = true;
  defaults.norm_epsilon = 1e-5;
  defaults.own_activation = true;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  config.activation = Activation::kGelu;
  for (LayerConfig& layer : config.layers) {
    layer.is_moe = true;
    layer.sliding_window = std::nullopt;
  }
  // Released values where a conversion has them in its code alone.
  MOESCOPE_ASSIGN_OR_RETURN(
      config.embedding_scale,
      json.PositiveRealOr("embedding_multiplier_scale", 78.38367176906169));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.logit_scale,
      json.PositiveRealOr("output_multiplier_scale", 0.5773502691896257));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.attention.scale,
      json.PositiveRealOr("attn_output_multiplier", 0.08838834764831845));
  MOESCOPE_ASSIGN_OR_RETURN(config.attention.score_cap,
                            json.PositiveRealOr("max_attn_value", 30.0));
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> experts,
                            OptionalExpertCount(json, "num_experts"));
  config.num_experts = experts.value_or(8);
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.Integer("intermediate_size", kFeedForwardRange));
  config.router.rule = "softmax_topk";
  return ParseExpertsPerToken(json, 2, config);
}

const Layout& LayoutOf(const TensorBinder& binder) {
  const bool keyfan = binder.Has(
      absl::StrCat(kKeyfan.layer, 0, ".", kKeyfan.router, ".weight"));
  return keyfan ? kKeyfan : kHpcai;
}

absl::Status BindGrok1Blocks(const TensorBinder& binder,
                             ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  const Layout& layout = LayoutOf(binder);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string prefix = absl::StrCat(layout.layer, i, ".");
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.router,
        binder.RequireLinear(prefix + layout.router, config.num_experts,
                             config.width, /*has_bias=*/false));
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.experts,
        BindExperts(binder, prefix + layout.experts, kGrokNames));
  }
  return absl::OkStatus();
}

absl::Status BindAttention(const TensorBinder& binder, const Layout& layout,
                           const std::string& prefix,
                           AttentionTensors& attention) {
  const ModelConfig& config = binder.config();
  const std::int64_t queries = config.num_heads * config.head_dim;
  const std::int64_t keys = config.num_kv_heads * config.head_dim;
  const auto bind = [&](std::size_t map, std::int64_t rows, std::int64_t cols) {
    return binder.RequireLinear(prefix + layout.attention[map], rows, cols,
                                /*has_bias=*/false);
  };
  MOESCOPE_ASSIGN_OR_RETURN(attention.q, bind(0, queries, config.width));
  MOESCOPE_ASSIGN_OR_RETURN(attention.k, bind(1, keys, config.width));
  MOESCOPE_ASSIGN_OR_RETURN(attention.v, bind(2, keys, config.width));
  MOESCOPE_ASSIGN_OR_RETURN(attention.o, bind(3, config.width, queries));
  return absl::OkStatus();
}

absl::Status BindGrok1Rest(const TensorBinder& binder, ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  const Layout& layout = LayoutOf(binder);
  MOESCOPE_RETURN_IF_ERROR(BindEnds(binder, layout.ends, tensors));
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string prefix = absl::StrCat(layout.layer, i, ".");
    const auto norm = [&](std::size_t place) {
      return BindNorm(binder, prefix + layout.norms[place],
                      layout.norm_suffix);
    };
    MOESCOPE_ASSIGN_OR_RETURN(layer.input_norm, norm(0));
    MOESCOPE_ASSIGN_OR_RETURN(layer.attention_out_norm, norm(1));
    MOESCOPE_ASSIGN_OR_RETURN(layer.post_attention_norm, norm(2));
    MOESCOPE_ASSIGN_OR_RETURN(layer.block_out_norm, norm(3));
    MOESCOPE_RETURN_IF_ERROR(
        BindAttention(binder, layout, prefix, layer.attention));
  }
  return absl::OkStatus();
}

}  // namespace

Family Grok1Family() {
  return {"grok1",
          {"grok", "grok-1", "grok1"},
          &ParseGrok1,
          &BindGrok1Blocks,
          &BindGrok1Rest,
          {"Grok1ModelForCausalLM", "Grok1ForCausalLM", "GrokForCausalLM"}};
}

}  // namespace moescope::model::internal
