#include <ATen/ATen.h>

#include <vector>

#include "server/model/attention_internal.h"
#include "server/model/mixture_attention_internal.h"
#include "server/model/route_rows_internal.h"
#include "server/model/router_rules_internal.h"
#include "server/model/torch_tensor_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

// Choices of all rows, padding included: choice row * K + j.
struct Mixture {
  std::vector<std::vector<std::int64_t>> choices_of;  // per expert, rising
  at::Tensor weights;                                 // [R, K]
};

absl::StatusOr<Mixture> RouteHeads(const PassResources& pass,
                                   const AttentionLayer& layer,
                                   const at::Tensor& input) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const RoutedRows routed,
      RouteRows(pass,
                {layer.config, layer.config.router,
                 *FindRouterRule(layer.config.router.rule),
                 layer.weights.router, at::Tensor()},
                input));
  if (layer.on_routing) {
    MOESCOPE_RETURN_IF_ERROR(layer.on_routing(input, routed));
  }
  Mixture mixture;
  mixture.weights = routed.weights;
  mixture.choices_of.resize(
      static_cast<std::size_t>(layer.config.num_experts));
  const at::Tensor host = routed.ids.cpu().contiguous();
  const auto* const chosen = host.data_ptr<std::int64_t>();
  for (std::int64_t choice = 0; choice < host.numel(); ++choice) {
    mixture.choices_of[static_cast<std::size_t>(chosen[choice])].push_back(
        choice);
  }
  return mixture;
}

// Row `choice` of `out` becomes row choice / `share` of `x` through the map of
// the expert chosen there.
absl::Status ApplyMaps(const PassResources& pass, const Mixture& mixture,
                       const std::vector<LinearWeights>& maps,
                       const at::Tensor& x, std::int64_t share,
                       const at::Tensor& out) {
  const auto experts = static_cast<std::int64_t>(maps.size());
  return pass.Parallel(experts, [&](std::int64_t e) -> absl::Status {
    const auto index = static_cast<std::size_t>(e);
    const std::vector<std::int64_t>& choices = mixture.choices_of[index];
    if (choices.empty()) return absl::OkStatus();
    std::vector<std::int64_t> sources = choices;
    for (std::int64_t& source : sources) source /= share;
    const auto count = static_cast<std::int64_t>(choices.size());
    const std::int64_t rows = RoundUp(count, pass.shape.tile_rows);
    const auto gathered = pass.buffers.Take(rows, x.size(1));
    const auto mapped = pass.buffers.Take(rows, out.size(1));
    gathered->narrow(0, 0, count)
        .copy_(x.index_select(0, CopyToDevice(sources, pass.device)));
    gathered->narrow(0, count, rows - count).zero_();
    MOESCOPE_RETURN_IF_ERROR(Linear(pass, *gathered, maps[index], *mapped));
    out.index_copy_(0, CopyToDevice(choices, pass.device),
                    mapped->narrow(0, 0, count));
    return absl::OkStatus();
  });
}

// `outputs` [R K, D] summed over each row's choices, in their order, and the
// bias. Two roundings per term, as in RunExperts.
absl::Status Combine(const PassResources& pass, const Mixture& mixture,
                     const at::Tensor& outputs, const at::Tensor& bias,
                     const at::Tensor& out) {
  const std::int64_t tile = pass.shape.tile_rows;
  const std::int64_t per_token = mixture.weights.size(1);
  return pass.Parallel(out.size(0) / tile, [&](std::int64_t t) {
    const at::Tensor terms =
        outputs.narrow(0, t * tile * per_token, tile * per_token)
            .view({tile, per_token, out.size(1)});
    const at::Tensor weights = mixture.weights.narrow(0, t * tile, tile);
    at::Tensor sum = terms.select(1, 0) * weights.narrow(1, 0, 1);
    for (std::int64_t j = 1; j < per_token; ++j) {
      sum.add_(terms.select(1, j) * weights.narrow(1, j, 1));
    }
    out.narrow(0, t * tile, tile).copy_(sum.add_(bias));
    return absl::OkStatus();
  });
}

// Exchanges the middle dimensions of `from` [R, A, B, N] into `to`, memory
// [R, B, A, N], tile by tile.
absl::Status Exchange(const PassResources& pass, const at::Tensor& from,
                      const at::Tensor& to) {
  const std::int64_t tile = pass.shape.tile_rows;
  return pass.Parallel(from.size(0) / tile, [&](std::int64_t t) {
    to.narrow(0, t * tile, tile)
        .copy_(from.narrow(0, t * tile, tile).transpose(1, 2));
    return absl::OkStatus();
  });
}

}  // namespace

absl::Status MixtureAttention(const PassResources& pass,
                              const AttentionLayer& layer,
                              const at::Tensor& input, const at::Tensor& out) {
  const ModelConfig& config = layer.config;
  const AttentionWeights& weights = layer.weights;
  const std::int64_t rows = input.size(0);
  const std::int64_t per_token = config.router.experts_per_token;
  const std::int64_t kv_heads = config.num_kv_heads;
  const std::int64_t dim = config.head_dim;
  const bool interleaved = config.rope.interleaved;
  MOESCOPE_ASSIGN_OR_RETURN(const Mixture mixture,
                            RouteHeads(pass, layer, input));
  // By choice [R K, G dim], and by key/value head [R, G K, dim].
  const auto by_choice = pass.buffers.Take(rows * per_token, kv_heads * dim);
  const auto by_head = pass.buffers.Take(rows, kv_heads * per_token * dim);
  const auto mixed = pass.buffers.Take(rows, kv_heads * per_token * dim);
  const auto k = pass.buffers.Take(rows, kv_heads * dim);
  const auto v = pass.buffers.Take(rows, kv_heads * dim);
  MOESCOPE_RETURN_IF_ERROR(ApplyMaps(pass, mixture, weights.inputs, input,
                                     per_token, *by_choice));
  MOESCOPE_RETURN_IF_ERROR(
      Exchange(pass, by_choice->view({rows, per_token, kv_heads, dim}),
               by_head->view({rows, kv_heads, per_token, dim})));
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, input, weights.k, *k));
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, input, weights.v, *v));
  AttentionHeads parts;
  parts.q = by_head->view({rows, kv_heads * per_token, dim});
  parts.k = k->view({rows, kv_heads, dim});
  parts.v = v->view({rows, kv_heads, dim});
  const std::int64_t rotated = config.RotatedWidth();
  MOESCOPE_RETURN_IF_ERROR(ApplyRope(pass, layer.positions, interleaved,
                                     parts.q.narrow(2, 0, rotated)));
  MOESCOPE_RETURN_IF_ERROR(ApplyRope(pass, layer.positions, interleaved,
                                     parts.k.narrow(2, 0, rotated)));
  MOESCOPE_RETURN_IF_ERROR(
      Attention(pass, layer.lengths, config.attention, layer.layer, parts,
                mixed->view({rows, kv_heads * per_token, dim})));
  MOESCOPE_RETURN_IF_ERROR(
      Exchange(pass, mixed->view({rows, kv_heads, per_token, dim}),
               by_choice->view({rows, per_token, kv_heads, dim})));
  const auto outputs = pass.buffers.Take(rows * per_token, config.width);
  MOESCOPE_RETURN_IF_ERROR(ApplyMaps(pass, mixture, weights.outputs,
                                     *by_choice, 1, *outputs));
  return Combine(pass, mixture, *outputs, weights.mixture_bias, out);
}

}  // namespace moescope::model::internal
