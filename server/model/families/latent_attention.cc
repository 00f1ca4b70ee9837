#include <cmath>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/families/rope_config_internal.h"

// Multi-head latent attention: its keys of config.json and its tensors.
// Source: DeepSeek-V2, arXiv 2405.04434, section 2.1; transformers 5.23,
// modeling_deepseek_v2.py and modeling_deepseek_v3.py.

namespace moescope::model::internal {
namespace {

// Of the config classes of versions 2 and 3 where the key is absent; null means
// no compression.
constexpr std::int64_t kAssumedQueryRank = 1536;

absl::Status ParseWidths(const ConfigReader& json, AttentionConfig& attention) {
  attention.kind = AttentionKind::kLatent;
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.q_rank,
      json.IntegerOr("q_lora_rank",
                     json.Mentions("q_lora_rank") ? 0 : kAssumedQueryRank,
                     {0, kWidthRange.max}));
  MOESCOPE_ASSIGN_OR_RETURN(attention.kv_rank,
                            json.Integer("kv_lora_rank", kWidthRange));
  MOESCOPE_ASSIGN_OR_RETURN(attention.nope_dim,
                            json.Integer("qk_nope_head_dim", kHeadRange));
  MOESCOPE_ASSIGN_OR_RETURN(attention.rope_dim,
                            json.Integer("qk_rope_head_dim", kHeadRange));
  MOESCOPE_ASSIGN_OR_RETURN(attention.value_dim,
                            json.Integer("v_head_dim", kHeadRange));
  if (attention.rope_dim % 2 != 0) {
    return absl::DataLossError(absl::StrCat(
        "qk_rope_head_dim: is ", attention.rope_dim, ", must be even"));
  }
  return absl::OkStatus();
}

// With scaled positions the scores are multiplied by YaRN's temperature twice.
absl::StatusOr<double> ParseScale(const ConfigReader& json,
                                  const ModelConfig& config) {
  const double plain =
      1.0 / std::sqrt(static_cast<double>(config.QueryWidth()));
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> rope,
                            RopeObject(json));
  if (!rope || config.rope.kind == "default") return plain;
  MOESCOPE_ASSIGN_OR_RETURN(const double m,
                            rope->NonNegativeRealOr("mscale_all_dim", 0));
  const double magnitude = m == 0 ? 1 : YarnMagnitude(config.rope.factor, m);
  return plain * magnitude * magnitude;
}

}  // namespace

absl::Status ParseLatentDecoder(const ConfigReader& json,
                                DecoderDefaults defaults,
                                ModelConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(ParseWidths(json, config.attention));
  defaults.head_dim = config.QueryWidth();
  defaults.rope_dim = config.attention.rope_dim;
  MOESCOPE_RETURN_IF_ERROR(ParseDecoder(json, defaults, config));
  // Every head has keys and values of its own once they are expanded.
  config.num_kv_heads = config.num_heads;
  MOESCOPE_ASSIGN_OR_RETURN(config.rope.interleaved,
                            json.BoolOr("rope_interleave", true));
  const absl::StatusOr<double> scale = ParseScale(json, config);
  ForForwardAlone(scale.status(), config);
  if (scale.ok()) config.attention.scale = *scale;
  MOESCOPE_ASSIGN_OR_RETURN(config.qkv_bias,
                            json.BoolOr("attention_bias", false));
  config.output_bias = config.qkv_bias;
  return absl::OkStatus();
}

absl::Status BindLatentAttention(const TensorBinder& binder,
                                 const std::string& prefix,
                                 AttentionTensors& attention) {
  const ModelConfig& config = binder.config();
  const AttentionConfig& a = config.attention;
  const std::int64_t queries = config.num_heads * config.QueryWidth();
  if (a.q_rank == 0) {
    MOESCOPE_ASSIGN_OR_RETURN(
        attention.q, binder.RequireLinear(prefix + "q_proj", queries,
                                          config.width, /*has_bias=*/false));
  } else {
    MOESCOPE_ASSIGN_OR_RETURN(
        attention.q_a, binder.RequireLinear(prefix + "q_a_proj", a.q_rank,
                                            config.width, config.qkv_bias));
    MOESCOPE_ASSIGN_OR_RETURN(
        attention.q_a_norm.weight,
        binder.Require(prefix + "q_a_layernorm.weight", {a.q_rank}));
    MOESCOPE_ASSIGN_OR_RETURN(
        attention.q_b, binder.RequireLinear(prefix + "q_b_proj", queries,
                                            a.q_rank, /*has_bias=*/false));
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.kv_a,
      binder.RequireLinear(prefix + "kv_a_proj_with_mqa",
                           a.kv_rank + a.rope_dim, config.width,
                           config.qkv_bias));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.kv_a_norm.weight,
      binder.Require(prefix + "kv_a_layernorm.weight", {a.kv_rank}));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.kv_b,
      binder.RequireLinear(prefix + "kv_b_proj",
                           config.num_heads * (a.nope_dim + a.value_dim),
                           a.kv_rank, /*has_bias=*/false));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.o,
      binder.RequireLinear(prefix + "o_proj", config.width,
                           config.num_heads * a.value_dim, config.output_bias));
  return absl::OkStatus();
}

}  // namespace moescope::model::internal
