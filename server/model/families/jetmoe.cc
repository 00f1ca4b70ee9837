#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/families/stacked_experts_internal.h"
#include "server/model/quote_name_internal.h"

// JetMoE 8B (transformers 5.23, modeling_jetmoe.py; arXiv 2404.07413): two
// routers per layer. That of the feed-forward part chooses K of E blocks; that
// of the attention chooses K of E groups of query heads (and their output
// maps), one head of each group per key/value head. Both take the softmax over
// the chosen logits. config.json is spelled as transformers has it or as the
// publisher has (myshell-ai/JetMoE, configuration_jetmoe.py).

namespace moescope::model::internal {
namespace {

// The class never hands its layers' norms the config's epsilon.
constexpr double kLayerNormEpsilon = 1e-6;

absl::Status ParseActivation(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::string name,
                            json.StringOr("activation_function", "silu"));
  if (name == "silu" || name == "swish") return absl::OkStatus();
  if (name != "gelu") {
    return json.NotSupported("activation_function", QuoteName(name),
                             "silu, gelu are");
  }
  config.activation = Activation::kGelu;
  return absl::OkStatus();
}

absl::Status ParseExperts(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(config.num_experts,
                            ExpertCount(json, "num_local_experts"));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::optional<std::int64_t> chosen,
      json.OptionalAgreedInteger({"num_experts_per_tok", "moe_top_k"},
                                 {1, config.num_experts}));
  if (chosen.has_value()) {
    config.router.experts_per_token = *chosen;
  } else {
    MOESCOPE_RETURN_IF_ERROR(ParseExpertsPerToken(json, 2, config));
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.AgreedInteger({"intermediate_size", "ffn_hidden_size"},
                         kFeedForwardRange));
  return absl::OkStatus();
}

// The publisher's class has a key for what follows from two others.
absl::Status CheckHeads(const ConfigReader& json, const ModelConfig& config) {
  constexpr const char* kKey = "num_attention_heads";
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t heads,
      json.IntegerOr(kKey, config.num_heads, kHeadRange));
  if (heads == config.num_heads) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      kKey, ": is ", heads, ", must be num_key_value_heads ",
      config.num_kv_heads, " times the ", config.router.experts_per_token,
      " experts per token"));
}

absl::Status ParseJetmoe(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(ParseExperts(json, config));
  // Switches of the publisher's class, whose other value is another block.
  MOESCOPE_RETURN_IF_ERROR(json.RequireBool("glu", true));
  MOESCOPE_RETURN_IF_ERROR(json.RequireBool("bias", true));
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t kv_heads,
                            json.Integer("num_key_value_heads", kHeadRange));
  DecoderDefaults defaults;
  defaults.num_heads = kv_heads * config.router.experts_per_token;
  MOESCOPE_ASSIGN_OR_RETURN(defaults.head_dim,
                            json.Integer("kv_channels", kWidthRange));
  defaults.tied_embeddings = true;
  defaults.norm_epsilon = 1e-6;
  defaults.max_positions = 4096;
  defaults.own_activation = true;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  MOESCOPE_RETURN_IF_ERROR(ParseActivation(json, config));
  config.final_norm_epsilon = config.norm_epsilon;
  config.norm_epsilon = kLayerNormEpsilon;
  config.attention.kind = AttentionKind::kMixture;
  config.router.rule = "topk_softmax";
  ForForwardAlone(CheckHeads(json, config), config);
  for (LayerConfig& layer : config.layers) {
    layer.is_moe = true;
    layer.sliding_window = std::nullopt;
  }
  return absl::OkStatus();
}

absl::Status BindJetmoeBlocks(const TensorBinder& binder,
                              ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    LayerTensors& layer = tensors.layers[static_cast<std::size_t>(i)];
    const std::string block = LayerPrefix(i) + "mlp.";
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.router,
        binder.RequireLinear(block + "router.layer", config.num_experts,
                             config.width, /*has_bias=*/false));
    MOESCOPE_ASSIGN_OR_RETURN(
        layer.experts,
        BindFusedExperts(binder, block + "input_linear.weight",
                         block + "output_linear.weight"));
    MOESCOPE_ASSIGN_OR_RETURN(layer.block_bias,
                              binder.Require(block + "bias", {config.width}));
  }
  return absl::OkStatus();
}

}  // namespace

Family JetmoeFamily() {
  return {"jetmoe", {"jetmoe"}, &ParseJetmoe, &BindJetmoeBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
