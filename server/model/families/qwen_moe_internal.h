#pragma once

#include <cstdint>

#include "absl/status/status.h"

#include "server/model/families/decoder_internal.h"

// What Qwen's two generations of expert models share: softmax over all experts,
// top K; dense layers by decoder_sparse_step and mlp_only_layers.

namespace moescope::model::internal {

DecoderDefaults QwenMoeDefaults();

/// ParseDecoder, numbers and widths of experts, and which layers have them;
/// `experts_per_token` where the key is absent.
absl::Status ParseQwenMoe(const ConfigReader& json,
                          const DecoderDefaults& defaults,
                          std::int64_t experts_per_token, ModelConfig& config);

}  // namespace moescope::model::internal
