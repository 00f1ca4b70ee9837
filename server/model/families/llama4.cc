#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/families/quantisation_internal.h"
#include "server/model/families/stacked_experts_internal.h"
#include "server/model/quote_name_internal.h"

// Llama 4 (transformers 5.23, modeling_llama4.py): dense and expert layers by
// turns, a shared expert, top 1 by logit; its sigmoid multiplies the expert's
// input. Layers with rotary positions see their own chunk, the others all. On
// its own (llama4_text), or as the text part of the multimodal checkpoint
// (llama4), where the config has an object text_config and tensors a prefix.

namespace moescope::model::internal {
namespace {

constexpr const char* kNestedPrefix = "language_model.";

// Whether layer i rotates: `no_rope_layers` (1: it does, despite the name),
// else all but every `no_rope_layer_interval`-th.
absl::Status ParseRotation(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> rotates,
                            json.Integers("no_rope_layers", {0, 1}));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t interval,
      json.IntegerOr("no_rope_layer_interval", 4, kLayerRange));
  if (!rotates.empty() && rotates.size() != config.layers.size()) {
    return absl::DataLossError(
        absl::StrCat("no_rope_layers: has ", rotates.size(),
                     " entries, must have ", config.layers.size()));
  }
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    config.layers[i].rotates =
        rotates.empty() ? (static_cast<std::int64_t>(i) + 1) % interval != 0
                        : rotates[i] == 1;
  }
  return absl::OkStatus();
}

// Chunks where `layer_types` says so, else in the layers that rotate.
absl::Status ParseChunks(const ConfigReader& json, ModelConfig& config) {
  std::optional<std::int64_t> chunk = 8192;
  if (json.Mentions("attention_chunk_size")) {
    MOESCOPE_ASSIGN_OR_RETURN(
        chunk, json.OptionalInteger("attention_chunk_size", kPositionRange));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> types,
                            json.Strings("layer_types"));
  if (!types.empty() && types.size() != config.layers.size()) {
    return absl::DataLossError(absl::StrCat("layer_types: has ", types.size(),
                                            " entries, must have ",
                                            config.layers.size()));
  }
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    LayerConfig& layer = config.layers[i];
    layer.sliding_window = std::nullopt;
    const bool chunked =
        types.empty() ? layer.rotates : types[i] == "chunked_attention";
    if (!types.empty() && !chunked && types[i] != "full_attention") {
      return json.NotSupported(absl::StrCat("layer_types[", i, "]"),
                               QuoteName(types[i]),
                               "chunked_attention, full_attention are");
    }
    if (chunked) layer.attention_chunk = chunk;
  }
  return absl::OkStatus();
}

absl::Status ParseAttention(const ConfigReader& json, ModelConfig& config) {
  config.rope.interleaved = true;
  MOESCOPE_RETURN_IF_ERROR(ParseRotation(json, config));
  MOESCOPE_RETURN_IF_ERROR(ParseChunks(json, config));
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  MOESCOPE_ASSIGN_OR_RETURN(const bool normed,
                            json.BoolOr("use_qk_norm", true));
  if (normed) {
    config.attention.query_key_norm = QueryKeyNorm::kUnweighted;
    config.attention.query_key_norm_epsilon = config.norm_epsilon;
  }
  // The first releases have a number there.
  MOESCOPE_ASSIGN_OR_RETURN(const bool tuned,
                            json.TruthOr("attn_temperature_tuning", true));
  if (!tuned) return absl::OkStatus();
  MOESCOPE_ASSIGN_OR_RETURN(config.attention.temperature_scale,
                            json.PositiveRealOr("attn_scale", 0.1));
  MOESCOPE_ASSIGN_OR_RETURN(config.attention.temperature_floor,
                            json.PositiveRealOr("floor_scale", 8192.0));
  return absl::OkStatus();
}

// `moe_layers`, else every `interleave_moe_layer_step`-th.
absl::Status ParseMoeLayers(const ConfigReader& json, ModelConfig& config) {
  if (json.Has("moe_layers")) {
    MOESCOPE_ASSIGN_OR_RETURN(
        const std::vector<std::int64_t> chosen,
        json.Integers("moe_layers", {0, config.num_layers - 1}));
    for (const std::int64_t i : chosen) {
      config.layers[static_cast<std::size_t>(i)].is_moe = true;
    }
    return absl::OkStatus();
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t step,
      json.IntegerOr("interleave_moe_layer_step", 1, kLayerRange));
  for (std::int64_t i = step - 1; i < config.num_layers; i += step) {
    config.layers[static_cast<std::size_t>(i)].is_moe = true;
  }
  return absl::OkStatus();
}

// Of models that have expert layers: Llama Guard 4 has none, and 0 experts.
absl::Status ParseExperts(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(config.num_experts,
                            ExpertCount(json, "num_local_experts"));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.Integer("intermediate_size", kFeedForwardRange));
  config.num_shared_experts = 1;
  config.shared_width = config.expert_width;
  config.router.rule = "topk_sigmoid";
  config.router.scales_input = true;
  MOESCOPE_ASSIGN_OR_RETURN(
      config.router.experts_per_token,
      json.IntegerOr("num_experts_per_tok", 1, {1, config.num_experts}));
  return absl::OkStatus();
}

absl::Status ParseText(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults;
  defaults.rope_theta = 500000.0;
  defaults.num_kv_heads = 8;
  defaults.assumed_head_dim = 128;
  defaults.norm_epsilon = 1e-5;
  defaults.max_positions = 131072;
  defaults.quantisations = {};
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  ForForwardAlone(ParseAttention(json, config), config);
  MOESCOPE_ASSIGN_OR_RETURN(
      config.dense_width,
      json.IntegerOr("intermediate_size_mlp", 16384, kFeedForwardRange));
  MOESCOPE_RETURN_IF_ERROR(ParseMoeLayers(json, config));
  return config.MoeLayers().empty() ? absl::OkStatus()
                                    : ParseExperts(json, config);
}

absl::Status ParseLlama4(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> text,
                            json.Object("text_config"));
  if (config.model_type == "llama4" && !text.has_value()) {
    return absl::DataLossError("text_config: missing");
  }
  // Of the multimodal checkpoint the outer object says how it is quantised.
  MOESCOPE_RETURN_IF_ERROR(ParseQuantisation(json, {}, config));
  return ParseText(text.has_value() ? *text : json, config);
}

// The multimodal checkpoint's tensors without their prefix.
TensorBinder TextBinder(const TensorBinder& binder) {
  return binder.HasUnder(kNestedPrefix) ? binder.Under(kNestedPrefix) : binder;
}

absl::Status BindLlama4Blocks(const TensorBinder& outer,
                              ModelTensors& tensors) {
  const TensorBinder binder = TextBinder(outer);
  const ModelConfig& config = binder.config();
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string block = LayerPrefix(i) + "feed_forward.";
    if (!config.IsMoeLayer(i)) {
      MOESCOPE_ASSIGN_OR_RETURN(
          layer.dense,
          BindBlock(binder, block, kPlainNames, config.dense_width));
      continue;
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.router, binder.RequireLinear(block + "router", config.num_experts,
                                           config.width, /*has_bias=*/false));
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.experts,
        BindTransposedExperts(binder, block + "experts.gate_up_proj",
                              block + "experts.down_proj",
                              GateUpOrder::kHalves));
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.shared, BindBlock(binder, block + "shared_expert.", kPlainNames,
                                config.shared_width));
  }
  return absl::OkStatus();
}

absl::Status BindLlama4Rest(const TensorBinder& binder, ModelTensors& tensors) {
  return BindDecoder(TextBinder(binder), tensors);
}

}  // namespace

Family Llama4Family() {
  return {"llama4", {"llama4", "llama4_text"}, &ParseLlama4,
          &BindLlama4Blocks, &BindLlama4Rest};
}

}  // namespace moescope::model::internal
