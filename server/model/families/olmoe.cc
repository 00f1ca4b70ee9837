#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"

// OLMoE: softmax over all experts, top K, weights as they are; norms over all
// queries and all keys of a token, then an optional clip of queries, keys and
// values. Source: transformers 5.23, modeling_olmoe.py.

namespace moescope::model::internal {
namespace {

absl::Status ParseOlmoe(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults;
  defaults.norm_epsilon = 1e-5;
  defaults.max_positions = 4096;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  MOESCOPE_RETURN_IF_ERROR(ParseSoftmaxExperts(json, 8, config));
  MOESCOPE_ASSIGN_OR_RETURN(config.expert_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  config.attention.query_key_norm = QueryKeyNorm::kFullWidth;
  config.attention.query_key_norm_epsilon = config.norm_epsilon;
  if (json.Has("clip_qkv")) {
    MOESCOPE_ASSIGN_OR_RETURN(config.attention.clip_qkv,
                              json.PositiveReal("clip_qkv"));
  }
  for (LayerConfig& layer : config.layers) layer.is_moe = true;
  return absl::OkStatus();
}

}  // namespace

Family OlmoeFamily() {
  return {"olmoe", {"olmoe"}, &ParseOlmoe, &BindPlainBlocks, &BindDecoder};
}

}  // namespace moescope::model::internal
