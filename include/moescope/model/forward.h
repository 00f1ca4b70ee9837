#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace moescope::model {

/// Whole sequences, one after the other. Attention never crosses them;
/// positions start at 0 in each.
struct TokenBatch {
  absl::Span<const std::int32_t> ids;      ///< [T]
  absl::Span<const std::int64_t> lengths;  ///< Sum: T. Each ≥ 1.
};

/// What a forward pass is asked to compute and show.
struct ForwardRequest {
  /// Layers whose observations are wanted; rising.
  std::vector<std::int64_t> layers;
  /// OnExperts for all E experts on every token. Otherwise the experts that a
  /// token was routed to are evaluated, and OnExperts is not called.
  bool all_experts = false;
  /// OnLayerOutput.
  bool layer_outputs = false;
  /// OnLogits; otherwise the pass ends after the last of `layers`.
  bool logits = false;
};

/// The routing of all T tokens of a batch in one layer. Tensors are fp32 (ids
/// int64), on the model's device.
struct LayerRouting {
  std::int64_t layer = 0;
  at::Tensor moe_input;      ///< [T, D]
  at::Tensor logits;         ///< [T, E] raw
  at::Tensor scores;         ///< [T, E] the rule's score function over all E
  at::Tensor topk_ids;       ///< [T, K] by falling weight; ties: lower index
  at::Tensor topk_weights;   ///< [T, K] as applied
  /// [T] lowest score among the chosen minus highest among the others.
  at::Tensor margin;
};

/// Rows [row_begin, row_begin + rows) of one expert's values.
struct ExpertRows {
  std::int64_t layer = 0;
  std::int64_t expert = 0;
  std::int64_t row_begin = 0;
  at::Tensor activation;  ///< [rows, F] act(gate_proj x), before `up`
  at::Tensor output;      ///< [rows, D] unweighted
};

/// What one layer's feed-forward block gave.
struct LayerOutput {
  std::int64_t layer = 0;
  at::Tensor shared_output;  ///< [T, D]; undefined without shared experts
  at::Tensor routed_output;  ///< [T, D] weighted sum; undefined if dense
  at::Tensor block_output;   ///< [T, D] the block's output, shared included
  at::Tensor mlp_input;      ///< [T, D] dense layers only, else undefined
  at::Tensor residual;       ///< [T, D] residual stream leaving the layer
};

/// Receives observations while a pass runs. Per layer: OnRouting, then
/// OnExpertRows, then OnLayerOutput. Tensors are only valid during the call
/// unless copied. A status that is not OK ends the pass with it.
/// Threads: OnExpertRows is called for different experts at the same time from
/// different threads, and for one expert in row order; all else one at a time.
class ForwardObserver {
 public:
  virtual ~ForwardObserver() = default;
  virtual absl::Status OnRouting(const LayerRouting& /*routing*/) {
    return absl::OkStatus();
  }
  virtual absl::Status OnExpertRows(const ExpertRows& /*rows*/) {
    return absl::OkStatus();
  }
  virtual absl::Status OnLayerOutput(const LayerOutput& /*output*/) {
    return absl::OkStatus();
  }
  virtual absl::Status OnLogits(const at::Tensor& /*logits*/ /* [T, V] */) {
    return absl::OkStatus();
  }
};

}  // namespace moescope::model
