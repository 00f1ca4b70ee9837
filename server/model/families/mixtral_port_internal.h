#pragma once

#include "absl/status/status.h"

#include "server/model/families/decoder_internal.h"

// The first public port of Mixtral 8x7B: model_type "mistral" and experts under
// "mlp."; it takes the K largest logits and the softmax over these alone.

namespace moescope::model::internal {

/// Whether a config.json of model_type "mistral" is this port's.
bool IsMixtralPort(const ConfigReader& json);

/// What it has beside the dense model's keys, which `config` holds already.
absl::Status ParseMixtralPort(const ConfigReader& json, ModelConfig& config);

/// Routers and experts of all layers.
absl::Status BindMixtralPort(const TensorBinder& binder, ModelTensors& tensors);

}  // namespace moescope::model::internal
