#include <cstdint>
#include <optional>

#include "moescope/base/status_macros.h"
#include "server/model/families/mixtral_port_internal.h"

// Mistral 7B: dense, the baseline that Mixtral's experts are compared with. A
// config.json of this model_type that counts experts is Mixtral's first port.

namespace moescope::model::internal {
namespace {

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
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> experts,
                            OptionalExpertCount(json, "num_local_experts"));
  return experts.has_value() ? ParseMixtralPort(json, *experts, config)
                             : absl::OkStatus();
}

absl::Status BindMistralBlocks(const TensorBinder& binder,
                               ModelTensors& tensors) {
  return binder.config().num_experts == 0 ? BindPlainBlocks(binder, tensors)
                                          : BindMixtralPort(binder, tensors);
}

}  // namespace

Family MistralFamily() {
  return {"mistral", {"mistral"}, &ParseMistral, &BindMistralBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
