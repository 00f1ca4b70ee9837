#include "server/model/route_rows_internal.h"

#include <ATen/ATen.h>

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

RoutedRows MakeRows(const RouterTask& task, const at::Tensor& input) {
  const RouterConfig& router = task.router;
  const std::int64_t experts = task.config.num_experts;
  const std::int64_t rows = input.size(0);
  const at::TensorOptions reals = input.options();
  const at::TensorOptions integers = reals.dtype(at::kLong);
  RoutedRows routed;
  routed.logits = at::empty({rows, experts}, reals);
  routed.scores = at::empty({rows, experts}, reals);
  routed.ids = at::empty({rows, router.experts_per_token}, integers);
  routed.weights = at::empty({rows, router.experts_per_token}, reals);
  routed.margin = at::empty({rows}, reals);
  if (router.corrected) {
    routed.choice = at::empty({rows, experts}, reals);
  }
  if (router.num_groups > 1) {
    routed.group_mask = at::empty({rows, router.num_groups}, integers);
    routed.depends_on_mask = at::empty({rows}, integers);
  }
  return routed;
}

}  // namespace

absl::StatusOr<RoutedRows> RouteRows(const PassResources& pass,
                                     const RouterTask& task,
                                     const at::Tensor& input) {
  const std::int64_t size = pass.shape.tile_rows;
  const RoutedRows rows = MakeRows(task, input);
  MOESCOPE_RETURN_IF_ERROR(Linear(pass, input, task.weights, rows.logits));
  MOESCOPE_RETURN_IF_ERROR(
      pass.Parallel(input.size(0) / size, [&](std::int64_t t) {
        const auto tile = [&](const at::Tensor& x) {
          return x.narrow(0, t * size, size);
        };
        const Routing routing = task.rule.route(
            tile(rows.logits), task.router, task.correction);
        tile(rows.scores).copy_(routing.scores);
        tile(rows.ids).copy_(routing.topk_ids);
        tile(rows.weights).copy_(routing.topk_weights);
        tile(rows.margin).copy_(routing.margin);
        if (rows.choice.defined()) tile(rows.choice).copy_(routing.choice);
        if (rows.group_mask.defined()) {
          tile(rows.group_mask).copy_(routing.group_mask);
          tile(rows.depends_on_mask).copy_(routing.depends_on_mask);
        }
        return absl::OkStatus();
      }));
  return rows;
}

LayerRouting ShowRouting(std::int64_t layer, const at::Tensor& input,
                         const RoutedRows& rows, std::int64_t tokens) {
  const auto real = [tokens](const at::Tensor& x) {
    return x.defined() ? x.narrow(0, 0, tokens) : x;
  };
  return {layer,
          real(input),
          real(rows.logits),
          real(rows.scores),
          real(rows.ids),
          real(rows.weights),
          real(rows.margin),
          real(rows.choice),
          real(rows.group_mask),
          real(rows.depends_on_mask)};
}

}  // namespace moescope::model::internal
