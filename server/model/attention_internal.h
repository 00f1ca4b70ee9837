#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/model/forward_kernels_internal.h"

#include "moescope/model/config.h"

namespace moescope::model::internal {

/// Cosine and sine of each row's angles: position / theta^(2i / head_dim),
/// computed in fp64 on the host.
struct RopeTables {
  at::Tensor cosine;  // [R, head_dim / 2]
  at::Tensor sine;    // [R, head_dim / 2]
};
/// Positions start at 0 in each sequence; rows after the last sequence (up to
/// `rows`) have position 0.
RopeTables MakeRopeTables(absl::Span<const std::int64_t> lengths,
                          std::int64_t rows, const ModelConfig& config,
                          c10::Device device);

/// Rotates the halves of every head of `x` [R, heads * head_dim] in place, tile
/// by tile.
absl::Status ApplyRope(const PassResources& pass, const RopeTables& tables,
                       std::int64_t head_dim, const at::Tensor& x);

/// Causal attention of each sequence with grouped key/value heads and, if the
/// layer's config says so, a sliding window (query i sees key j when i - window
/// < j ≤ i). Products have shapes that depend on the position inside the sequence
/// alone. `q`, `out` [R, H * head_dim], `k`, `v` [R, num_kv_heads * head_dim];
/// rows of `out` past the last sequence become 0.
absl::Status Attention(const PassResources& pass,
                       absl::Span<const std::int64_t> lengths,
                       const ModelConfig& config, std::int64_t layer,
                       const at::Tensor& q,
                       const at::Tensor& k, const at::Tensor& v,
                       const at::Tensor& out);

}  // namespace moescope::model::internal
