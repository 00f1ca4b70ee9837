#include <optional>

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"

// Mistral 7B: dense, the baseline that Mixtral's experts are compared with. The
// first public port of Mixtral 8x7B has the same model_type and experts under
// "mlp."; it takes the K largest logits and the softmax over these alone.

namespace moescope::model::internal {
namespace {

absl::Status ParseExperts(const ConfigReader& json, const char* experts_key,
                          ModelConfig& config) {
  config.family = "mixtral";
  MOESCOPE_ASSIGN_OR_RETURN(config.num_experts,
                            json.Integer(experts_key, kExpertRange));
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

absl::Status ParseMistral(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults;
  defaults.num_kv_heads = 8;
  defaults.sliding_window = 4096;
  defaults.norm_epsilon = 1e-6;
  defaults.max_positions = 131072;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  MOESCOPE_ASSIGN_OR_RETURN(config.dense_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  const char* experts_key = ExpertCountKey(json, "num_local_experts");
  return json.Has(experts_key) ? ParseExperts(json, experts_key, config)
                               : absl::OkStatus();
}

absl::Status BindMistralBlocks(const TensorBinder& binder,
                               ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  if (config.num_experts == 0) return BindPlainBlocks(binder, tensors);
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    MOESCOPE_RETURN_IF_ERROR(BindRouterAndExperts(
        binder, LayerPrefix(i) + "mlp.", "gate", kMixtralNames,
        tensors.layers[static_cast<std::size_t>(i)]));
  }
  return absl::OkStatus();
}

}  // namespace

Family MistralFamily() {
  return {"mistral", {"mistral"}, &ParseMistral, &BindMistralBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
