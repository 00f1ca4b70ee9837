#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "moescope/model/config.h"

namespace moescope::model::internal {

/// What a rule makes of raw router logits [T, E]. All fp32 but the ids (int64),
/// on the device of the logits.
struct Routing {
  at::Tensor scores;        // [T, E]
  at::Tensor topk_ids;      // [T, K] by falling weight
  at::Tensor topk_weights;  // [T, K]
  at::Tensor margin;        // [T]
};

/// The K largest of each row, largest first; among equals the lower index.
/// `margin` is the lowest chosen minus the highest other value, +inf when all
/// are chosen.
struct Selection {
  at::Tensor ids;     // [T, K] int64
  at::Tensor margin;  // [T]
};
Selection SelectTopK(const at::Tensor& values, std::int64_t k);

/// Sorts the K choices of each row by falling weight; equal weights keep the
/// order in which they were selected.
void OrderByWeight(Routing& routing);

/// One row of the table of routing rules. A row is independent of every other
/// token's row.
struct RouterRule {
  absl::string_view name;
  /// Definition: see the functions in router_rules.cc. Torch exceptions pass.
  Routing (*route)(const at::Tensor& logits, const RouterConfig& config);
};

/// nullptr when no rule has that name.
const RouterRule* FindRouterRule(absl::string_view name);
std::vector<std::string> RouterRuleNames();

}  // namespace moescope::model::internal
