#include <ATen/ATen.h>

#include "server/model/attention_internal.h"
#include "server/model/mixture_attention_internal.h"
#include "server/model/self_attention_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

constexpr double kLatentNormEpsilon = 1e-6;

template <typename Body>
absl::Status ForTiles(const PassResources& pass, std::int64_t rows,
                      const Body& body) {
  const std::int64_t tile = pass.shape.tile_rows;
  return pass.Parallel(rows / tile, [&](std::int64_t t) {
    body(t * tile, tile);
    return absl::OkStatus();
  });
}

// In place, over the last dimension of `x` [R, …]. Without a weight: the plain
// root mean square.
absl::Status Normalise(const PassResources& pass, const at::Tensor& x,
                       const NormWeights& norm, double epsilon) {
  return ForTiles(pass, x.size(0), [&](std::int64_t row, std::int64_t rows) {
    const at::Tensor tile = x.narrow(0, row, rows);
    tile.copy_(RmsNorm(tile, norm.weight, epsilon));
  });
}

absl::Status Clip(const PassResources& pass, const at::Tensor& x,
                  const std::optional<double>& limit) {
  if (!limit) {
    return absl::OkStatus();
  }
  return ForTiles(pass, x.size(0), [&](std::int64_t row, std::int64_t rows) {
    at::Tensor tile = x.narrow(0, row, rows);
    tile.clamp_(-*limit, *limit);
  });
}

// Queries [R, H, Q] or keys [R, G, Q] of kGrouped, ready for Attention.
absl::Status PrepareHeads(const PassResources& pass,
                          const AttentionLayer& layer, const NormWeights& norm,
                          const at::Tensor& heads) {
  const AttentionConfig& attention = layer.config.attention;
  const double epsilon = attention.query_key_norm_epsilon;
  if (attention.query_key_norm == QueryKeyNorm::kPerHead) {
    MOESCOPE_RETURN_IF_ERROR(Normalise(pass, heads, norm, epsilon));
  } else if (attention.query_key_norm == QueryKeyNorm::kFullWidth) {
    MOESCOPE_RETURN_IF_ERROR(
        Normalise(pass, heads.flatten(1), norm, epsilon));
  }
  MOESCOPE_RETURN_IF_ERROR(Clip(pass, heads, attention.clip_qkv));
  if (!layer.layer.rotates) {
    return absl::OkStatus();
  }
  MOESCOPE_RETURN_IF_ERROR(
      ApplyRope(pass, layer.positions, layer.config.rope.interleaved,
                heads.narrow(2, 0, layer.config.RotatedWidth())));
  return attention.query_key_norm == QueryKeyNorm::kUnweighted
             ? Normalise(pass, heads, NormWeights(), epsilon)
             : absl::OkStatus();
}

absl::Status ApplyTemperature(const PassResources& pass,
                              const AttentionLayer& layer,
                              const at::Tensor& queries) {
  if (layer.layer.rotates || !layer.positions.temperature.defined()) {
    return absl::OkStatus();
  }
  return ForTiles(
      pass, queries.size(0), [&](std::int64_t row, std::int64_t rows) {
        queries.narrow(0, row, rows)
            .mul_(layer.positions.temperature.narrow(0, row, rows).unsqueeze(
                2));
      });
}

absl::Status GroupedAttention(const PassResources& pass,
                              const AttentionLayer& layer,
                              const at::Tensor& input, const at::Tensor& out) {
  const ModelConfig& config = layer.config;
  const AttentionWeights& weights = layer.weights;
  const std::int64_t rows = input.size(0);
  const std::int64_t heads = config.num_heads;
  const std::int64_t kv_heads = config.num_kv_heads;
  const std::int64_t dim = config.head_dim;
  const auto q = pass.buffers.Take(rows, heads * dim);
  const auto k = pass.buffers.Take(rows, kv_heads * dim);
  const auto v = pass.buffers.Take(rows, kv_heads * dim);
  const auto mixed = pass.buffers.Take(rows, heads * dim);
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, input, weights.q, *q));
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, input, weights.k, *k));
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, input, weights.v, *v));
  AttentionHeads parts;
  parts.q = q->view({rows, heads, dim});
  parts.k = k->view({rows, kv_heads, dim});
  parts.v = v->view({rows, kv_heads, dim});
  parts.sinks = weights.sinks;
  MOESCOPE_RETURN_IF_ERROR(PrepareHeads(pass, layer, weights.q_norm, parts.q));
  MOESCOPE_RETURN_IF_ERROR(PrepareHeads(pass, layer, weights.k_norm, parts.k));
  MOESCOPE_RETURN_IF_ERROR(Clip(pass, parts.v, config.attention.clip_qkv));
  MOESCOPE_RETURN_IF_ERROR(ApplyTemperature(pass, layer, parts.q));
  MOESCOPE_RETURN_IF_ERROR(Attention(pass, layer.lengths, config.attention,
                                     layer.layer, parts,
                                     mixed->view({rows, heads, dim})));
  return Linear(pass, *mixed, weights.o, out);
}

// Queries [R, H, nope + rope] into `q`.
absl::Status LatentQueries(const PassResources& pass,
                           const AttentionLayer& layer, const at::Tensor& input,
                           const at::Tensor& q) {
  const AttentionWeights& weights = layer.weights;
  const std::int64_t rank = layer.config.attention.q_rank;
  if (rank == 0) {
    return Linear(pass, input, weights.q, q);
  }
  const auto latent = pass.buffers.Take(input.size(0), rank);
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, input, weights.q_a, *latent));
  MOESCOPE_RETURN_IF_ERROR(
      Normalise(pass, *latent, weights.q_a_norm, kLatentNormEpsilon));
  return Linear(pass, *latent, weights.q_b, q);
}

absl::Status LatentAttention(const PassResources& pass,
                             const AttentionLayer& layer,
                             const at::Tensor& input, const at::Tensor& out) {
  const ModelConfig& config = layer.config;
  const AttentionConfig& a = config.attention;
  const std::int64_t rows = input.size(0);
  const std::int64_t heads = config.num_heads;
  const bool interleaved = config.rope.interleaved;
  const auto q = pass.buffers.Take(rows, heads * (a.nope_dim + a.rope_dim));
  const auto down = pass.buffers.Take(rows, a.kv_rank + a.rope_dim);
  const auto latent = pass.buffers.Take(rows, a.kv_rank);
  const auto up = pass.buffers.Take(rows, heads * (a.nope_dim + a.value_dim));
  const auto mixed = pass.buffers.Take(rows, heads * a.value_dim);
  MOESCOPE_RETURN_IF_ERROR(LatentQueries(pass, layer, input, *q));
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, input, layer.weights.kv_a, *down));
  MOESCOPE_RETURN_IF_ERROR(
      ForTiles(pass, rows, [&](std::int64_t row, std::int64_t count) {
        latent->narrow(0, row, count)
            .copy_(RmsNorm(
                down->narrow(0, row, count).narrow(1, 0, a.kv_rank),
                layer.weights.kv_a_norm.weight, kLatentNormEpsilon));
      }));
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, *latent, layer.weights.kv_b, *up));
  AttentionHeads parts;
  parts.q = q->view({rows, heads, a.nope_dim + a.rope_dim});
  const at::Tensor expanded =
      up->view({rows, heads, a.nope_dim + a.value_dim});
  parts.k = expanded.narrow(2, 0, a.nope_dim);
  parts.v = expanded.narrow(2, a.nope_dim, a.value_dim);
  parts.shared_key = down->narrow(1, a.kv_rank, a.rope_dim);
  MOESCOPE_RETURN_IF_ERROR(
      ApplyRope(pass, layer.positions, interleaved,
                parts.q.narrow(2, a.nope_dim, a.rope_dim)));
  MOESCOPE_RETURN_IF_ERROR(ApplyRope(pass, layer.positions, interleaved,
                                     parts.shared_key.unsqueeze(1)));
  MOESCOPE_RETURN_IF_ERROR(
      Attention(pass, layer.lengths, a, layer.layer, parts,
                mixed->view({rows, heads, a.value_dim})));
  return Linear(pass, *mixed, layer.weights.o, out);
}

}  // namespace

absl::Status SelfAttention(const PassResources& pass,
                           const AttentionLayer& layer, const at::Tensor& input,
                           const at::Tensor& out) {
  switch (layer.config.attention.kind) {
    case AttentionKind::kGrouped:
      return GroupedAttention(pass, layer, input, out);
    case AttentionKind::kLatent:
      return LatentAttention(pass, layer, input, out);
    case AttentionKind::kMixture:
      break;
  }
  return MixtureAttention(pass, layer, input, out);
}

std::int64_t AttentionFloats(const ModelConfig& config) {
  const AttentionConfig& a = config.attention;
  const std::int64_t queries = config.num_heads * config.QueryWidth();
  const std::int64_t values = config.num_heads * config.ValueWidth();
  const std::int64_t keys = config.num_kv_heads * config.head_dim;
  switch (a.kind) {
    case AttentionKind::kLatent:
      return queries + values + a.q_rank + 2 * a.kv_rank + a.rope_dim +
             config.num_heads * (a.nope_dim + a.value_dim);
    case AttentionKind::kMixture:
      return 3 * queries + 2 * keys + 2 * config.num_experts +
             config.router.experts_per_token * (config.width + 3) + 1;
    case AttentionKind::kGrouped:
      break;
  }
  return 2 * queries + 2 * keys;
}

}  // namespace moescope::model::internal
