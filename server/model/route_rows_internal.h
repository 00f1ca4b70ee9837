#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/model/forward_kernels_internal.h"
#include "server/model/router_rules_internal.h"

#include "moescope/model/forward.h"

namespace moescope::model::internal {

/// The routing of all R rows of a layer, padding included; as LayerRouting,
/// with R for T.
struct RoutedRows {
  at::Tensor logits;   // [R, E]
  at::Tensor scores;   // [R, E]
  at::Tensor ids;      // [R, K]
  at::Tensor weights;  // [R, K]
  at::Tensor margin;   // [R]
  at::Tensor choice;           // [R, E]
  at::Tensor group_mask;       // [R, num_groups]
  at::Tensor depends_on_mask;  // [R]
};

/// A router at work: its rule and that rule's parameters.
struct RouterTask {
  const ModelConfig& config;
  const RouterConfig& router;
  const RouterRule& rule;
  const LinearWeights& weights;  // [E, D]
  at::Tensor correction;         // [E]; undefined where there is none
};

/// Logits of `input` [R, D] and what the rule makes of them, tile by tile.
absl::StatusOr<RoutedRows> RouteRows(const PassResources& pass,
                                     const RouterTask& task,
                                     const at::Tensor& input);

/// The first `tokens` rows as an observer sees them; shares memory.
LayerRouting ShowRouting(std::int64_t layer, const at::Tensor& input,
                         const RoutedRows& rows, std::int64_t tokens);

}  // namespace moescope::model::internal
