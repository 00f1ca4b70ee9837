#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace moescope::model {

/// Whole sequences, one after the other. Attention never crosses them;
/// positions start at 0 in each.
struct TokenBatch {
  absl::Span<const std::int32_t> ids;      ///< [T]
  absl::Span<const std::int64_t> lengths;  ///< Sum: T. Each ≥ 1.
};

/// What a forward pass is asked to compute and show. The residual stream
/// always follows the model's own routing, whatever is asked for; but for
/// masked_groups_are_zero, which is another routing.
/// Precision: the same batch and request give the same bits for any number of
/// threads and beside any other pass. Beyond that, a token's values do not
/// depend on the sequences packed beside it or after it, and routing and
/// residual are the same whatever is asked for: in every bit where the library
/// treats all rows of a tile alike (OpenBLAS's AVX-512 kernels do), and but for
/// rounding elsewhere (its AVX2 kernels).
struct ForwardRequest {
  /// Layers whose observations are wanted; rising.
  std::vector<std::int64_t> layers;
  /// OnExpertRows for all E experts on every token, in the wanted MoE layers;
  /// the weighted sum is formed from these same outputs (but where weights
  /// multiply the experts' input: llama4). Otherwise each expert
  /// is evaluated on the tokens routed to it, and OnExpertRows is not called.
  bool all_experts = false;
  /// OnLayerOutput.
  bool layer_outputs = false;
  /// OnLogitRows. Otherwise the pass ends with the last observation wanted.
  bool logits = false;
  /// In place of RouterConfig's; nullopt: the model's own. Without groups it
  /// changes nothing.
  std::optional<bool> masked_groups_are_zero;
};

/// What a router made of all T tokens of a batch in one layer. Tensors are fp32 (ids
/// int64), on the model's device.
struct LayerRouting {
  std::int64_t layer = 0;
  at::Tensor moe_input;     ///< [T, D] what the router reads
  at::Tensor logits;        ///< [T, E] raw
  at::Tensor scores;        ///< [T, E] the rule's score function over all E
  at::Tensor topk_ids;      ///< [T, K] by falling weight; ties: chosen first
  at::Tensor topk_weights;  ///< [T, K] as applied
  /// [T] lowest chosen minus highest other score; a correction or groups can
  at::Tensor margin;  ///< decide against the scores: below 0. All chosen: +inf.
  /// [T, E] what experts are compared by, before groups; undefined where that
  /// is the scores.
  at::Tensor choice;
  /// [T, num_groups] int64: 1 for the groups whose experts are eligible;
  /// undefined without groups.
  at::Tensor group_mask;
  /// [T] int64: 1 where other experts were chosen if those of masked groups
  /// compared as the other of 0 and -infinity than in this pass
  /// (masked_groups_are_zero); undefined without groups.
  at::Tensor depends_on_mask;
};

/// Rows [row_begin, row_begin + rows) of one expert's values. All blocks but
/// the last have the same number of rows, fixed per kind of device (CPU: 1024).
struct ExpertRows {
  std::int64_t layer = 0;
  std::int64_t expert = 0;
  std::int64_t row_begin = 0;
  at::Tensor activation;  ///< [rows, F] act(gate_proj x), before `up`
  at::Tensor output;      ///< [rows, D] unweighted, of x itself
};

/// What one layer's feed-forward block gave.
struct LayerOutput {
  std::int64_t layer = 0;
  at::Tensor shared_output;  ///< [T, D]; undefined without shared experts
  at::Tensor routed_output;  ///< [T, D] weighted sum; undefined if dense
  /// [T, D] the block's output: shared and the block's bias included, before a
  /// norm on it.
  at::Tensor block_output;
  at::Tensor mlp_input;      ///< [T, D] dense layers only, else undefined
  at::Tensor residual;       ///< [T, D] residual stream leaving the layer
};

/// Rows [row_begin, row_begin + rows) of the logits, blocks as in ExpertRows.
struct LogitRows {
  std::int64_t row_begin = 0;
  at::Tensor logits;  ///< [rows, V]
};

/// Receives observations while a pass runs. Per layer: OnAttentionRouting, then
/// OnRouting, then OnExpertRows, then OnLayerOutput; OnLogitRows at the end. Tensors are fp32,
/// on the model's device and only valid during the call unless copied (their
/// memory is used again). A status that is not OK ends the pass with it.
/// Threads: OnExpertRows is called for different experts at the same time from
/// different threads, and for one expert in row order; all else one at a time.
/// Calls run in c10::InferenceMode; an exception becomes INTERNAL.
class ForwardObserver {
 public:
  virtual ~ForwardObserver() = default;
  /// Models whose attention has experts of its own (jetmoe: groups of query
  /// heads), E, K and rule as those of the feed-forward blocks.
  virtual absl::Status OnAttentionRouting(const LayerRouting& /*routing*/) {
    return absl::OkStatus();
  }
  virtual absl::Status OnRouting(const LayerRouting& /*routing*/) {
    return absl::OkStatus();
  }
  virtual absl::Status OnExpertRows(const ExpertRows& /*rows*/) {
    return absl::OkStatus();
  }
  virtual absl::Status OnLayerOutput(const LayerOutput& /*output*/) {
    return absl::OkStatus();
  }
  /// In row order.
  virtual absl::Status OnLogitRows(const LogitRows& /*rows*/) {
    return absl::OkStatus();
  }
};

}  // namespace moescope::model
