#pragma once

#include <cstdint>

#include "absl/status/status.h"

#include "server/model/families/decoder_internal.h"

// What DeepSeek's three versions share: the first layers are dense, the others
// have many small routed experts and shared ones, which lie on disk as one wide
// block. Layers beyond num_hidden_layers (V3's multi-token prediction) take no
// part.

namespace moescope::model::internal {

/// What the config class of a version has where keys are absent.
struct DeepseekExpertDefaults {
  std::int64_t experts_per_token = 0;  ///< 0: the key must be there.
  std::int64_t num_shared = 0;
  std::int64_t first_moe = 0;
};

DecoderDefaults DeepseekDecoderDefaults(std::int64_t max_positions);

/// Widths and numbers of experts, and which layers have them.
absl::Status ParseDeepseekExperts(const ConfigReader& json,
                                  const DeepseekExpertDefaults& defaults,
                                  ModelConfig& config);

/// n_group and topk_group; `smallest_group` experts must be in each group.
absl::Status ParseDeepseekGroups(const ConfigReader& json,
                                 std::int64_t smallest_group,
                                 ModelConfig& config);

/// The whole config.json of version 2 (deepseek_v2.cc), which its first
/// checkpoints call "deepseek".
absl::Status ParseDeepseekV2(const ConfigReader& json, ModelConfig& config);

/// Routers with their corrections, routed and shared experts, dense blocks.
absl::Status BindDeepseekBlocks(const TensorBinder& binder,
                                ModelTensors& tensors);

}  // namespace moescope::model::internal
