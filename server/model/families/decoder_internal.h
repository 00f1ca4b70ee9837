#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "server/model/families/family_internal.h"

// What the families with Llama's decoder (pre-norm, rotated halves, grouped
// queries, gated feed-forward) share: keys of config.json and tensor names.

namespace moescope::model::internal {

/// Limits of what config.json may claim. Products of up to four of them and an
/// element size stay below 2^63.
inline constexpr IntegerRange kLayerRange = {1, 4096};
inline constexpr IntegerRange kWidthRange = {1, 1 << 20};
inline constexpr IntegerRange kFeedForwardRange = {1, 1 << 22};
inline constexpr IntegerRange kVocabRange = {1, 1 << 24};
inline constexpr IntegerRange kHeadRange = {1, 1 << 14};
inline constexpr IntegerRange kExpertRange = {1, 1 << 16};
inline constexpr IntegerRange kPositionRange = {1, 1 << 30};

/// Values of keys that a config.json may leave out.
struct DecoderDefaults {
  double rope_theta = 10000.0;
  /// Width of a query head as the family's own keys have it; 0: `head_dim`, or
  /// hidden_size over the number of heads.
  std::int64_t head_dim = 0;
  /// Of `head_dim` where that is absent; 0: hidden_size over the number of
  /// heads, which null always means.
  std::int64_t assumed_head_dim = 0;
  /// Width that rotary positions are for; 0: a whole head.
  std::int64_t rope_dim = 0;
  /// Number of query heads as the family's own keys have it; 0:
  /// `num_attention_heads`.
  std::int64_t num_heads = 0;
  /// 0: as many as query heads, which null always means.
  std::int64_t num_kv_heads = 0;
  bool tied_embeddings = false;
  /// 0: the key must be there.
  double norm_epsilon = 0;
  /// 0: the key must be there.
  std::int64_t max_positions = 0;
  /// The family's activation is not config.json's to choose.
  bool own_activation = false;
  /// Where the key is absent; null always means none.
  std::optional<std::int64_t> sliding_window;
  /// The key counts only beside `use_sliding_window` true (Qwen).
  bool window_needs_switch = false;
  /// What quantization_config may say.
  std::vector<Quantisation> quantisations = {Quantisation::kFloat8Blocks};
};

/// Everything of ModelConfig but the feed-forward part; layers are dense. What
/// is wrong with positions or windows goes to forward_status.
/// Refuses other quantised weights and activations but SiLU.
absl::Status ParseDecoder(const ConfigReader& json,
                          const DecoderDefaults& defaults, ModelConfig& config);

/// ParseDecoder for multi-head latent attention: all of config.attention, too.
/// It has widths of its own for those of `defaults`.
absl::Status ParseLatentDecoder(const ConfigReader& json,
                                DecoderDefaults defaults, ModelConfig& config);

/// Its tensors in one layer; `prefix` is "model.layers.3.self_attn.".
absl::Status BindLatentAttention(const TensorBinder& binder,
                                 const std::string& prefix,
                                 AttentionTensors& attention);

/// Those of attention with a router of its own; `prefix` is
/// "model.layers.3.self_attention.".
absl::Status BindMixtureAttention(const TensorBinder& binder,
                                  const std::string& prefix,
                                  AttentionTensors& attention);

/// Reads `layer_types`, one of "full_attention" and "sliding_attention" per
/// layer, where it is there: full layers lose their window.
absl::Status ParseLayerTypes(const ConfigReader& json, ModelConfig& config);

/// The number of experts, under `own` or another key that a family has for it;
/// nullopt without any. Errors: DATA_LOSS, also where two of them disagree.
absl::StatusOr<std::optional<std::int64_t>> OptionalExpertCount(
    const ConfigReader& json, const char* own,
    IntegerRange range = kExpertRange);

/// As OptionalExpertCount; DATA_LOSS naming `own` without any.
absl::StatusOr<std::int64_t> ExpertCount(const ConfigReader& json,
                                         const char* own,
                                         IntegerRange range = kExpertRange);

/// `num_experts_per_tok`, of config.num_experts; `fallback` where it is absent,
/// 0: it must be there.
absl::Status ParseExpertsPerToken(const ConfigReader& json,
                                  std::int64_t fallback, ModelConfig& config);

/// Number of experts and the rule "softmax_topk": `num_experts` (as
/// ExpertCount), `num_experts_per_tok` (as ParseExpertsPerToken),
/// `norm_topk_prob`.
absl::Status ParseSoftmaxExperts(const ConfigReader& json,
                                 std::int64_t experts_per_token,
                                 ModelConfig& config);

/// Embeddings, head, norms and attention (of config.attention.kind) of all
/// layers, under Llama's names.
absl::Status BindDecoder(const TensorBinder& binder, ModelTensors& tensors);

/// What the tensors before and after the layers are called.
struct EndNames {
  const char* embeddings;
  const char* norm;
  const char* head;
  const char* norm_suffix = ".weight";
};
inline constexpr EndNames kLlamaEnds = {"model.embed_tokens", "model.norm",
                                        "lm_head"};

/// Embeddings, final norm and head; a tied head needs no tensor of its own.
absl::Status BindEnds(const TensorBinder& binder, const EndNames& names,
                      ModelTensors& tensors);

/// The norm [D] `name` + `suffix`, with `name` + ".bias" if the config has
/// norm_bias.
absl::StatusOr<NormTensors> BindNorm(const TensorBinder& binder,
                                     const std::string& name,
                                     const char* suffix = ".weight");

/// "model.layers.3."
std::string LayerPrefix(std::int64_t layer);

/// What the three matrices are called on disk, indexed by Projection.
using ProjectionNames = std::array<const char*, kNumProjections>;
inline constexpr ProjectionNames kPlainNames = {"gate_proj", "up_proj",
                                                "down_proj"};
inline constexpr ProjectionNames kMixtralNames = {"w1", "w3", "w2"};

/// One feed-forward block of width `width`: `prefix` + name + ".weight".
/// Errors: as TensorBinder::RequireMatrix.
absl::StatusOr<ExpertWeights> BindBlock(const TensorBinder& binder,
                                        const std::string& prefix,
                                        const ProjectionNames& names,
                                        std::int64_t width);

/// E blocks, `prefix` + number + ".".
absl::StatusOr<std::vector<ExpertWeights>> BindExperts(
    const TensorBinder& binder, const std::string& prefix,
    const ProjectionNames& names);

/// E blocks out of `prefix` + "gate_up_proj" [E, 2F, D], gate rows first, and
/// `prefix` + "down_proj" [E, D, F].
absl::StatusOr<std::vector<ExpertWeights>> BindFusedExperts(
    const TensorBinder& binder, const std::string& prefix);

/// The router `block` + `router` and the experts below `block` + "experts.",
/// fused or each on its own with matrices called `names`.
absl::Status BindRouterAndExperts(const TensorBinder& binder,
                                  const std::string& block, const char* router,
                                  const ProjectionNames& names,
                                  LayerTensors& layer);

/// The feed-forward part of every layer under "block_sparse_moe." (transformers
/// 4), or with fused experts under "mlp." (5); the router is called "gate" or
/// "router".
absl::Status BindMixtralBlocks(const TensorBinder& binder,
                               ModelTensors& tensors);

/// The feed-forward part of every layer under "mlp.": router "gate" and experts,
/// each on its own or fused, in MoE layers; gate_proj, up_proj and down_proj in
/// dense ones.
absl::Status BindPlainBlocks(const TensorBinder& binder, ModelTensors& tensors);

}  // namespace moescope::model::internal
