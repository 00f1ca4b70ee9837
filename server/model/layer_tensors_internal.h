#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "moescope/model/checkpoint.h"
#include "moescope/model/safetensors.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::model::internal {

/// A linear map y = weight x + bias. Rows are outputs.
struct LinearTensors {
  numerics::MatrixView weight;        // [outputs, inputs]
  const TensorEntry* bias = nullptr;  // [outputs]; nullptr when there is none
  bool present() const { return weight.data != nullptr; }
};

struct NormTensors {
  const TensorEntry* weight = nullptr;  // [n]; nullptr: no such norm
  const TensorEntry* bias = nullptr;    // [n]; nullptr when there is none
};

/// The weights of one decoder layer's attention. What a kind of attention does
/// not name is absent.
struct AttentionTensors {
  // kGrouped.
  LinearTensors q;     // [H * head_dim, D]
  LinearTensors k;     // [num_kv_heads * head_dim, D]; kMixture, too
  LinearTensors v;     // [num_kv_heads * head_dim, D]; kMixture, too
  LinearTensors o;     // [D, H * head_dim]; kLatent: [D, H * value_dim]
  NormTensors q_norm;  // [head_dim] or [H * head_dim]
  NormTensors k_norm;  // [head_dim] or [num_kv_heads * head_dim]
  const TensorEntry* sinks = nullptr;  // [H]
  // kLatent. Without compression of queries `q` is [H * (nope + rope), D].
  LinearTensors q_a;       // [q_rank, D]
  NormTensors q_a_norm;    // [q_rank]
  LinearTensors q_b;       // [H * (nope_dim + rope_dim), q_rank]
  LinearTensors kv_a;      // [kv_rank + rope_dim, D]
  NormTensors kv_a_norm;   // [kv_rank]
  LinearTensors kv_b;      // [H * (nope_dim + value_dim), kv_rank]
  // kMixture: expert e maps into and out of the heads that it stands for.
  LinearTensors router;               // [E, D]
  std::vector<LinearTensors> inputs;  // E of [num_kv_heads * head_dim, D]
  std::vector<LinearTensors> outputs; // E of [D, num_kv_heads * head_dim]
  const TensorEntry* mixture_bias = nullptr;  // [D]
};

/// Biases of one expert's three maps; views of one row.
struct ExpertBiases {
  numerics::MatrixView gate;  // [1, F]
  numerics::MatrixView up;    // [1, F]
  numerics::MatrixView down;  // [1, D]
};

/// What a family's table found for one decoder layer. The feed-forward views
/// are what Checkpoint::Expert, SharedExpert and DenseBlock hand out.
struct LayerTensors {
  NormTensors input_norm;           // [D] before attention
  NormTensors post_attention_norm;  // [D] before the feed-forward block
  NormTensors attention_out_norm;   // [D] of attention's output (Grok-1)
  NormTensors block_out_norm;       // [D] of the block's output (Grok-1)
  AttentionTensors attention;
  LinearTensors router;  // [E, D]; absent in a dense layer
  /// Added to scores for the choice alone (DeepSeek-V3).
  const TensorEntry* router_correction = nullptr;  // [E]
  std::vector<ExpertWeights> experts;       // E; empty in a dense layer
  std::vector<ExpertBiases> expert_biases;  // E, or empty
  std::optional<ExpertWeights> shared;      // F = shared_width
  LinearTensors shared_gate;                // [1, D]; Qwen2-MoE
  const TensorEntry* block_bias = nullptr;  // [D] on the routed sum; jetmoe
  std::optional<ExpertWeights> dense;  // F = dense_width, dense layers only
};

/// All tensors of a checkpoint by role. Shapes are those of the comments:
/// checked when the checkpoint was opened. Entries (vectors, embeddings) are
/// BF16, F16 or F32; data need not be aligned.
struct ModelTensors {
  const TensorEntry* embeddings = nullptr;  // [V, D]
  NormTensors final_norm;                   // [D]
  LinearTensors lm_head;                    // [V, D]; tied: the embeddings
  bool lm_head_is_embeddings = false;
  std::vector<LayerTensors> layers;  // L
};

}  // namespace moescope::model::internal
