#include "moescope/base/status_macros.h"
#include "server/model/families/qwen_moe_internal.h"

// Qwen3-MoE: norms of each head's queries and keys, no shared expert.
// Source: transformers 5.23, modeling_qwen3_moe.py.

namespace moescope::model::internal {
namespace {

absl::Status ParseQwen3Moe(const ConfigReader& json, ModelConfig& config) {
  DecoderDefaults defaults = QwenMoeDefaults();
  defaults.num_kv_heads = 4;
  MOESCOPE_RETURN_IF_ERROR(ParseQwenMoe(json, defaults, 8, config));
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  config.attention.query_key_norm = QueryKeyNorm::kPerHead;
  config.attention.query_key_norm_epsilon = config.norm_epsilon;
  return absl::OkStatus();
}

}  // namespace

Family Qwen3MoeFamily() {
  return {"qwen3_moe", {"qwen3_moe"}, &ParseQwen3Moe, &BindPlainBlocks,
          &BindDecoder};
}

}  // namespace moescope::model::internal
