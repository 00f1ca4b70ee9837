#include "absl/status/status.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"

// Llama 2 and 3: dense, a baseline for expert models.
// Source: transformers 5.23, modeling_llama.py.

namespace moescope::model::internal {
namespace {

absl::Status ParseLlama(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults;
  defaults.norm_epsilon = 1e-6;
  defaults.max_positions = 2048;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  // Llama has no window, whatever a config carries along.
  for (LayerConfig& layer : config.layers) layer.sliding_window = std::nullopt;
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  MOESCOPE_RETURN_IF_ERROR(json.RequireBool("mlp_bias", false));
  MOESCOPE_ASSIGN_OR_RETURN(config.dense_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  return absl::OkStatus();
}

}  // namespace

Family LlamaFamily() {
  return {"llama", {"llama"}, &ParseLlama, &BindPlainBlocks, &BindDecoder};
}

}  // namespace moescope::model::internal
