#pragma once

#include <cstdint>

#include "absl/status/status.h"

#include "server/model/families/decoder_internal.h"

// The first public port of Mixtral 8x7B: model_type "mistral" and experts under
// "mlp."; it takes the K largest logits and the softmax over these alone.

namespace moescope::model::internal {

/// What it has beside the dense model's keys, which `config` holds already, and
/// the number of experts, by which it is known.
absl::Status ParseMixtralPort(const ConfigReader& json,
                              std::int64_t num_experts, ModelConfig& config);

/// Routers and experts of all layers.
absl::Status BindMixtralPort(const TensorBinder& binder, ModelTensors& tensors);

}  // namespace moescope::model::internal
