#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/model/forward_kernels_internal.h"
#include "server/model/resident_weights_internal.h"
#include "server/model/rope_internal.h"
#include "server/model/route_rows_internal.h"

#include "moescope/model/config.h"

namespace moescope::model::internal {

/// The attention module of one layer in one pass.
struct AttentionLayer {
  const ModelConfig& config;
  const LayerConfig& layer;
  const AttentionWeights& weights;
  const PositionTables& positions;
  absl::Span<const std::int64_t> lengths;
  /// Receives the attention's own routing of the module's input, where it has
  /// one (kMixture), once; empty: nobody wants it.
  std::function<absl::Status(const at::Tensor& input, const RoutedRows& routed)>
      on_routing = {};
};

/// From the normalised stream `input` [R, D] to the module's output `out`
/// [R, D]: projections, norms of queries and keys, clipping, rotation,
/// Attention, output projection. Which of them there are is the config's.
///
/// Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): queries are
/// q_b(norm(q_a x)), or q x; keys without position and values kv_b(norm(c))
/// with [c, k] = kv_a x; the rotated k is part of every head's key. Both inner
/// norms have epsilon 1e-6, whatever the config says (transformers 5.23,
/// modeling_deepseek_v3.py).
absl::Status SelfAttention(const PassResources& pass,
                           const AttentionLayer& layer, const at::Tensor& input,
                           const at::Tensor& out);

/// Floats per row that SelfAttention takes beside input and output.
std::int64_t AttentionFloats(const ModelConfig& config);

}  // namespace moescope::model::internal
