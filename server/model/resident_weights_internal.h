#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/model/checkpoint.h"
#include "server/model/resident_matrix_internal.h"

namespace moescope::model::internal {

/// One linear map in the checkpoint's number format: y = x · weightᵀ + bias.
struct LinearWeights {
  ResidentMatrix weight;  // [outputs, inputs]
  at::Tensor bias;        // [outputs] fp32; undefined when there is none
};

/// One expert or dense block in the checkpoint's number format. Biases are fp32
/// and undefined where there is none.
struct BlockWeights {
  ResidentMatrix gate;       // [F, D]
  ResidentMatrix up;         // [F, D]
  ResidentMatrix down;       // [D, F]
  at::Tensor gate_bias;  // [F]
  at::Tensor up_bias;    // [F]
  at::Tensor down_bias;  // [D]
};

/// Undefined where there is no such norm or bias.
struct NormWeights {
  at::Tensor weight;  // [n] fp32
  at::Tensor bias;    // [n] fp32
};

/// As AttentionTensors (layer_tensors_internal.h), with its shapes.
struct AttentionWeights {
  LinearWeights q;
  LinearWeights k;
  LinearWeights v;
  LinearWeights o;
  NormWeights q_norm;
  NormWeights k_norm;
  at::Tensor sinks;  // fp32
  LinearWeights q_a;
  NormWeights q_a_norm;
  LinearWeights q_b;
  LinearWeights kv_a;
  NormWeights kv_a_norm;
  LinearWeights kv_b;
  LinearWeights router;
  std::vector<LinearWeights> inputs;
  std::vector<LinearWeights> outputs;
  at::Tensor mixture_bias;  // fp32
};

/// As LayerTensors, with its shapes.
struct ResidentLayer {
  NormWeights input_norm;
  NormWeights post_attention_norm;
  NormWeights attention_out_norm;
  NormWeights block_out_norm;
  AttentionWeights attention;
  LinearWeights router;  // undefined in a dense layer
  at::Tensor router_correction;  // [E] fp32; undefined: none
  std::vector<BlockWeights> experts;
  std::optional<BlockWeights> shared;
  at::Tensor shared_gate;  // [D] fp32; undefined when there is none
  at::Tensor block_bias;   // [D] fp32; undefined when there is none
  std::optional<BlockWeights> dense;
};

/// All weights of a model on one device. Vectors (norms, biases) are widened to
/// fp32 once; matrices stay as they are on disk.
struct ResidentWeights {
  at::Tensor embeddings;  // [V, D]
  NormWeights final_norm;  // [D]
  LinearWeights lm_head;  // [V, D]
  std::vector<ResidentLayer> layers;
  std::int64_t bytes = 0;  // that all of these hold, counted
};

/// Makes the weights of `checkpoint` resident; they keep it alive where they
/// are its mapped memory. Reports bytes as progress after each layer.
/// Errors: CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL.
absl::StatusOr<ResidentWeights> LoadResidentWeights(
    const std::shared_ptr<const Checkpoint>& checkpoint, c10::Device device,
    const RunContext& context);

/// Bytes of the tensors that LoadResidentWeights makes resident.
std::int64_t ResidentBytes(const Checkpoint& checkpoint);

}  // namespace moescope::model::internal
