#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"

// Mixtral 8x7B and 8x22B: every layer has a router; softmax over all experts,
// top K, weights divided by their sum. On disk one tensor per expert
// (transformers 4), or all experts of a layer in two (transformers 5).

namespace moescope::model::internal {
namespace {

absl::Status ParseMixtral(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults;
  // Those of MixtralConfig (transformers 5).
  defaults.rope_theta = 1e6;
  defaults.num_kv_heads = 8;
  defaults.norm_epsilon = 1e-5;
  defaults.max_positions = 131072;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  MOESCOPE_ASSIGN_OR_RETURN(
      config.num_experts,
      ExpertCount(json, "num_local_experts"));
  MOESCOPE_ASSIGN_OR_RETURN(config.expert_width,
                            json.Integer("intermediate_size",
                                         kFeedForwardRange));
  config.router.rule = "softmax_topk";
  config.router.renormalise = true;
  MOESCOPE_RETURN_IF_ERROR(ParseExpertsPerToken(json, 2, config));
  for (LayerConfig& layer : config.layers) layer.is_moe = true;
  return absl::OkStatus();
}

}  // namespace

Family MixtralFamily() {
  return {"mixtral", {"mixtral"}, &ParseMixtral, &BindMixtralBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
