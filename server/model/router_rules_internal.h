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
  /// What experts are compared by, before groups; undefined: the scores.
  at::Tensor choice;  // [T, E]
  /// 1 for the groups that stay eligible; undefined without groups.
  at::Tensor group_mask;  // [T, num_groups] int64
  /// 1 where other experts were chosen if masked groups compared as the other
  /// of 0 and -infinity; undefined without groups.
  at::Tensor depends_on_mask;  // [T] int64
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
  /// Definition: see the functions in router_rules.cc. `correction` [E] is the
  /// layer's, undefined where it has none. Torch exceptions pass.
  Routing (*route)(const at::Tensor& logits, const RouterConfig& config,
                   const at::Tensor& correction);
};

/// nullptr when no rule has that name.
const RouterRule* FindRouterRule(absl::string_view name);
std::vector<std::string> RouterRuleNames();

}  // namespace moescope::model::internal
