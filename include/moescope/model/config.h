#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model {

/// act of a feed-forward block: h = act(gate_proj x) ⊙ up_proj x.
enum class Activation {
  kSilu,
  /// x Φ(x), by erf.
  kGelu,
  /// gpt_oss: with g = min(gate_proj x + b, limit) and u = clamp(up_proj x + b,
  /// ±limit): h = g σ(alpha g) ⊙ (u + 1). The activation is g σ(alpha g).
  kClampedSwiglu,
};

/// How a norm maps one row x of width n; parameters are vectors [n].
enum class NormKind {
  kRms,    ///< x / sqrt(mean(x²) + epsilon) ⊙ weight
  kLayer,  ///< (x - mean) / sqrt(var + epsilon) ⊙ weight (+ bias)
};

/// How a router turns logits [T, E] into chosen experts and weights. A family
/// file fills it from config.json; `rule` names the row of the router table
/// (server/model/router_rules.cc), the other fields are that rule's parameters.
struct RouterConfig {
  std::string rule;  ///< "softmax_topk", ...
  std::int64_t experts_per_token = 0;  ///< K
  bool renormalise = false;  ///< Divide the K weights by their sum.
  double scaling = 1.0;      ///< Factor on the weights.
  /// Groups of E / num_groups neighbouring experts, of which `groups_kept`
  /// stay eligible; 1: no groups.
  std::int64_t num_groups = 1;
  std::int64_t groups_kept = 1;
  /// What experts of the other groups compare as: 0, or -infinity. Models in
  /// the wild differ; it matters when choice values are negative.
  bool masked_groups_are_zero = false;
  /// Whether the choice goes by scores plus a correction that lies on disk.
  bool corrected = false;
  double jitter = 0.0;  ///< sparsemixer's jitter_eps.
  /// llama4: the weight multiplies the expert's input, not its output.
  bool scales_input = false;
};

/// Rotary position embedding: angle of pair i at position p is
/// p · inverse_frequency[i] after the scaling rule named by `kind`.
struct RopeConfig {
  /// "default", "linear", "dynamic", "yarn", "longrope", "llama3".
  std::string kind = "default";
  double theta = 10000.0;
  /// How many coordinates of a head are rotated (the first ones; with latent
  /// attention the last ones); 0: all.
  std::int64_t dim = 0;
  /// Pairs are neighbours (2i, 2i+1), not (i, i + dim/2).
  bool interleaved = false;
  double factor = 1.0;
  std::int64_t original_positions = 0;  ///< Length of the training.
  double beta_fast = 32.0;  ///< yarn
  double beta_slow = 1.0;   ///< yarn
  bool truncate = true;     ///< yarn: round the ramp's ends to whole pairs.
  double low_frequency_factor = 1.0;   ///< llama3
  double high_frequency_factor = 4.0;  ///< llama3
  std::vector<double> short_factors;   ///< longrope, one per pair.
  std::vector<double> long_factors;
  /// Factor on cosine and sine as the kind's rule gives it (for longrope up to
  /// the original length).
  double attention_factor = 1.0;
  double long_attention_factor = 1.0;  ///< longrope, beyond it.
};

enum class AttentionKind {
  kGrouped,  ///< Grouped queries; H query heads share num_kv_heads.
  kLatent,   ///< Multi-head latent attention of DeepSeek-V2 and V3.
  kMixture,  ///< jetmoe: a router chooses which query heads a token has.
};

/// Norms of queries and keys.
enum class QueryKeyNorm {
  kNone,
  kPerHead,      ///< RMS norm of each head, before the rotation; weight [head_dim].
  kFullWidth,    ///< RMS norm of all heads together; weight [H * head_dim].
  kUnweighted,   ///< llama4: each head by its RMS, after the rotation.
};

/// What the attention of all layers has in common.
struct AttentionConfig {
  AttentionKind kind = AttentionKind::kGrouped;
  QueryKeyNorm query_key_norm = QueryKeyNorm::kNone;
  double query_key_norm_epsilon = 1e-5;
  /// Factor on q·k; nullopt: 1 / sqrt(width of a query head).
  std::optional<double> scale;
  /// grok-1: scores become cap · tanh(score / cap) before the mask.
  std::optional<double> score_cap;
  /// q, k and v are clamped to ±clip (OLMoE, DBRX).
  std::optional<double> clip_qkv;
  bool sinks = false;  ///< gpt_oss: one more logit per head in the softmax.
  /// kLatent; widths of a head. q_rank 0: queries without compression.
  std::int64_t q_rank = 0;
  std::int64_t kv_rank = 0;
  std::int64_t nope_dim = 0;
  std::int64_t rope_dim = 0;
  std::int64_t value_dim = 0;
  /// llama4, layers without rotation: q times
  /// 1 + scale · log(floor((position + 1) / floor) + 1).
  std::optional<double> temperature_scale;
  double temperature_floor = 8192.0;
};

/// How weights are quantised on disk. Tensors that are not remain plain
/// numbers: norms, biases, embeddings, routers.
enum class Quantisation {
  kNone,
  kFloat8Blocks,  ///< fp8: F8_E4M3 with a weight_scale_inv per block.
  kMxfp4,  ///< mxfp4: experts in blocks of 32 values of 4 bits and a scale.
};

/// What differs from layer to layer.
struct LayerConfig {
  bool is_moe = false;
  /// A token sees itself and the `sliding_window` - 1 before it.
  std::optional<std::int64_t> sliding_window;
  /// llama4: a token sees those of its own chunk of this many positions.
  std::optional<std::int64_t> attention_chunk;
  bool rotates = true;  ///< Whether rotary positions are applied.
};

/// What config.json says, in one spelling for all families. Shapes are checked
/// against the tensors when the checkpoint is opened.
struct ModelConfig {
  std::string family;      ///< Row of the family table: "mixtral".
  std::string model_type;  ///< As in config.json; empty without one.
  std::int64_t num_layers = 0;
  std::int64_t width = 0;  ///< D
  std::int64_t vocab_size = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;
  NormKind norm = NormKind::kRms;
  double norm_epsilon = 1e-5;
  /// Epsilon of the norm before the head; nullopt: norm_epsilon (jetmoe's
  /// layers have an epsilon of their own).
  std::optional<double> final_norm_epsilon;
  RopeConfig rope;
  AttentionConfig attention;
  /// Whether q, k and v, and the output projection have biases on disk.
  bool qkv_bias = false;
  bool output_bias = false;
  bool norm_bias = false;  ///< Whether norms have biases on disk.
  bool head_bias = false;  ///< Whether the head has one.
  bool tied_embeddings = false;
  double embedding_scale = 1.0;  ///< Factor on embeddings (Grok-1).
  double logit_scale = 1.0;      ///< Factor on logits (Grok-1).
  Activation activation = Activation::kSilu;
  double swiglu_limit = 7.0;    ///< kClampedSwiglu
  double swiglu_alpha = 1.702;  ///< kClampedSwiglu
  Quantisation quantisation = Quantisation::kNone;
  /// Size of a block of kFloat8Blocks.
  std::int64_t scale_block_rows = 128;
  std::int64_t scale_block_cols = 128;

  std::int64_t num_experts = 0;  ///< E; 0 for a dense model.
  std::int64_t expert_width = 0;  ///< F of a routed expert.
  std::int64_t dense_width = 0;  ///< F of dense layers.
  std::int64_t num_shared_experts = 0;
  std::int64_t shared_width = 0;  ///< F of the shared block (all together).
  RouterConfig router;
  std::vector<LayerConfig> layers;  ///< L
  /// OK, or what a forward pass alone needs and is wrong or not supported: of
  /// the attention, its positions, a router's weights. The rest of this holds.
  absl::Status forward_status;

  /// Width of a head's query and key, and of its value.
  std::int64_t QueryWidth() const;
  std::int64_t ValueWidth() const;
  /// How many of a head's coordinates are rotated.
  std::int64_t RotatedWidth() const;
  /// Numbers of the layers that have a router, rising.
  std::vector<std::int64_t> MoeLayers() const;
  bool IsMoeLayer(std::int64_t layer) const {
    return layers[static_cast<std::size_t>(layer)].is_moe;
  }
};

/// Reads the text of a config.json.
/// Errors: DATA_LOSS for text that is no JSON object, a missing or wrongly
/// typed key, or a value outside its range (names the key); UNIMPLEMENTED for
/// an unknown model_type (lists the known ones), an activation or quantisation
/// that is not supported (names it). What a forward pass alone needs goes to
/// forward_status instead.
absl::StatusOr<ModelConfig> ParseConfig(absl::string_view json_text);

/// model_type values that ParseConfig accepts, sorted.
std::vector<std::string> KnownModelTypes();

/// The routing rule in words: "softmax over 8, top-2, renormalised".
/// `masked_groups_are_zero` is named in place of the model's own, beside it.
std::string DescribeRouter(
    const ModelConfig& config,
    std::optional<bool> masked_groups_are_zero = std::nullopt);

}  // namespace moescope::model
