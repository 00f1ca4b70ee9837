#include "server/model/families/qwen_moe_internal.h"

#include <algorithm>
#include <vector>

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

absl::Status ParseLayerKinds(const ConfigReader& json, ModelConfig& config) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t step,
      json.IntegerOr("decoder_sparse_step", 1, kLayerRange));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<std::int64_t> dense,
      json.Integers("mlp_only_layers", {0, kLayerRange.max}));
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    config.layers[static_cast<std::size_t>(i)].is_moe =
        (i + 1) % step == 0 &&
        std::find(dense.begin(), dense.end(), i) == dense.end();
  }
  return absl::OkStatus();
}

}  // namespace

DecoderDefaults QwenMoeDefaults() {
  DecoderDefaults defaults;
  defaults.norm_epsilon = 1e-6;
  defaults.max_positions = 32768;
  defaults.sliding_window = 4096;
  defaults.window_needs_switch = true;
  return defaults;
}

absl::Status ParseQwenMoe(const ConfigReader& json,
                          const DecoderDefaults& defaults,
                          std::int64_t experts_per_token,
                          ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  MOESCOPE_RETURN_IF_ERROR(
      ParseSoftmaxExperts(json, experts_per_token, config));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.expert_width,
      json.Integer("moe_intermediate_size", kFeedForwardRange));
  MOESCOPE_ASSIGN_OR_RETURN(config.dense_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  return ParseLayerKinds(json, config);
}

}  // namespace moescope::model::internal
