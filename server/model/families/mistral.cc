#include <optional>

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"

// Mistral 7B: dense. The baseline that Mixtral's experts are compared with.

namespace moescope::model::internal {
namespace {

absl::Status ParseMistral(const ConfigReader& json, ModelConfig& config) {
  const char* experts_key =
      json.FirstPresent({"num_local_experts", "num_experts"});
  if (json.Has(experts_key)) {
    return absl::UnimplementedError(
        std::string(experts_key) +
        ": experts under model_type \"mistral\" are not supported");
  }
  DecoderDefaults defaults;
  defaults.num_kv_heads = 8;
  defaults.sliding_window = 4096;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  MOESCOPE_ASSIGN_OR_RETURN(config.dense_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  return absl::OkStatus();
}

absl::Status BindMistralBlocks(const TensorBinder& binder,
                               ModelTensors& tensors) {
  const ModelConfig& config = binder.config();
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    MOESCOPE_ASSIGN_OR_RETURN(
        tensors.layers[static_cast<std::size_t>(i)].dense,
        BindBlock(binder, LayerPrefix(i) + "mlp.", kPlainNames,
                  config.dense_width));
  }
  return absl::OkStatus();
}

}  // namespace

Family MistralFamily() {
  return {"mistral", {"mistral"}, &ParseMistral, &BindMistralBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
