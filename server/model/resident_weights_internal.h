#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/model/checkpoint.h"

namespace moescope::model::internal {

/// One linear map in the checkpoint's number format: y = x · weightᵀ + bias.
struct LinearWeights {
  at::Tensor weight;  // [outputs, inputs]
  at::Tensor bias;    // [outputs] fp32; undefined when there is none
};

/// One expert or dense block in the checkpoint's number format.
struct BlockWeights {
  at::Tensor gate;  // [F, D]
  at::Tensor up;    // [F, D]
  at::Tensor down;  // [D, F]
};

struct ResidentLayer {
  at::Tensor input_norm;           // [D] fp32
  at::Tensor post_attention_norm;  // [D] fp32
  LinearWeights q;                 // [H * head_dim, D]
  LinearWeights k;                 // [num_kv_heads * head_dim, D]
  LinearWeights v;                 // [num_kv_heads * head_dim, D]
  LinearWeights o;                 // [D, H * head_dim]
  LinearWeights router;            // [E, D]; undefined in a dense layer
  std::vector<BlockWeights> experts;
  std::optional<BlockWeights> shared;
  std::optional<BlockWeights> dense;
};

/// All weights of a model on one device. Vectors (norms, biases) are widened to
/// fp32 once; matrices stay as they are on disk.
struct ResidentWeights {
  at::Tensor embeddings;  // [V, D]
  at::Tensor final_norm;  // [D] fp32
  LinearWeights lm_head;  // [V, D]
  std::vector<ResidentLayer> layers;
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
