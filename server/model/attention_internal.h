#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/model/forward_kernels_internal.h"

#include "moescope/model/config.h"

namespace moescope::model::internal {

/// Queries, keys and values of all rows, after norms and rotation; may be views
/// into wider rows. H query heads share G key/value heads: head h has the
/// h / (H / G)-th.
struct AttentionHeads {
  at::Tensor q;  // [R, H, Q]
  at::Tensor k;  // [R, G, N]
  /// What follows in every head's key; undefined where N = Q.
  at::Tensor shared_key;  // [R, Q - N]
  at::Tensor v;           // [R, G, V]
  at::Tensor sinks;       // [H] fp32; undefined: none
};

/// Causal attention of each sequence. Scores are q·k times the scale, capped
/// where the config says so; a sliding window (query i sees key j when
/// i - window < j ≤ i) and chunks (i and j in the same one) are the layer's.
/// A sink is one more logit of the softmax without a value. Products have
/// shapes that depend on the position inside the sequence alone. `out`
/// [R, H, V]; its rows past the last sequence become 0.
absl::Status Attention(const PassResources& pass,
                       absl::Span<const std::int64_t> lengths,
                       const AttentionConfig& config, const LayerConfig& layer,
                       const AttentionHeads& heads, const at::Tensor& out);

}  // namespace moescope::model::internal
