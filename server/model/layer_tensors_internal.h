#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "moescope/model/checkpoint.h"
#include "moescope/model/safetensors.h"

namespace moescope::model::internal {

/// The weights of one decoder layer's attention: rows are outputs. A bias is
/// nullptr where the model has none.
struct AttentionTensors {
  const TensorEntry* q_weight = nullptr;  // [H * head_dim, D]
  const TensorEntry* k_weight = nullptr;  // [num_kv_heads * head_dim, D]
  const TensorEntry* v_weight = nullptr;  // [num_kv_heads * head_dim, D]
  const TensorEntry* o_weight = nullptr;  // [D, H * head_dim]
  const TensorEntry* q_bias = nullptr;    // [H * head_dim]
  const TensorEntry* k_bias = nullptr;    // [num_kv_heads * head_dim]
  const TensorEntry* v_bias = nullptr;    // [num_kv_heads * head_dim]
  const TensorEntry* o_bias = nullptr;    // [D]
};

/// What a family's table found for one decoder layer. The feed-forward views
/// are what Checkpoint::Expert, SharedExpert and DenseBlock hand out.
struct LayerTensors {
  const TensorEntry* input_norm = nullptr;           // [D]
  const TensorEntry* post_attention_norm = nullptr;  // [D]
  AttentionTensors attention;
  const TensorEntry* router = nullptr;  // [E, D]; nullptr in a dense layer
  std::vector<ExpertWeights> experts;   // E; empty in a dense layer
  std::optional<ExpertWeights> shared;  // F = shared_width
  std::optional<ExpertWeights> dense;   // F = dense_width, dense layers only
};

/// All tensors of a checkpoint by role. Shapes are those of the comments:
/// checked when the checkpoint was opened. Every entry is BF16, F16 or F32 and
/// its data need not be aligned.
struct ModelTensors {
  const TensorEntry* embeddings = nullptr;  // [V, D]
  const TensorEntry* final_norm = nullptr;  // [D]
  const TensorEntry* lm_head = nullptr;     // [V, D]; tied: the embeddings
  std::vector<LayerTensors> layers;         // L
};

}  // namespace moescope::model::internal
