#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <limits>
#include <tuple>

#include "server/model/router_rules_internal.h"

namespace moescope::model::internal {
namespace {

// scores = softmax(logits) over all E in fp32; the K largest scores are chosen
// and are the weights, divided by their sum if `renormalise`, times `scaling`.
// Mixtral 8x7B (renormalised), DeepSeekMoE 16B, OLMoE, Qwen MoE, DBRX.
Routing SoftmaxTopK(const at::Tensor& logits, const RouterConfig& config) {
  Routing routing;
  routing.scores = at::softmax(logits.to(at::kFloat), -1);  // [T, E]
  const Selection chosen = SelectTopK(routing.scores, config.experts_per_token);
  routing.topk_ids = chosen.ids;
  routing.margin = chosen.margin;
  routing.topk_weights = routing.scores.gather(1, chosen.ids);  // [T, K]
  if (config.renormalise) {
    routing.topk_weights =
        routing.topk_weights / routing.topk_weights.sum(-1, /*keepdim=*/true);
  }
  if (config.scaling != 1.0) {
    routing.topk_weights = routing.topk_weights * config.scaling;
  }
  OrderByWeight(routing);
  return routing;
}

constexpr std::array<RouterRule, 1> kRules = {{
    {"softmax_topk", &SoftmaxTopK},
}};

}  // namespace

Selection SelectTopK(const at::Tensor& values, std::int64_t k) {
  // at::topk leaves the order of equals open; a stable sort keeps the lower
  // index first.
  const auto [sorted, order] =
      at::sort(values, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  Selection selection;
  selection.ids = order.narrow(1, 0, k).contiguous();
  if (k < values.size(1)) {
    selection.margin = sorted.select(1, k - 1) - sorted.select(1, k);
  } else {
    selection.margin =
        at::full({values.size(0)}, std::numeric_limits<double>::infinity(),
                 values.options());
  }
  return selection;
}

void OrderByWeight(Routing& routing) {
  const auto [weights, order] = at::sort(routing.topk_weights, /*stable=*/true,
                                         /*dim=*/-1, /*descending=*/true);
  routing.topk_weights = weights;
  routing.topk_ids = routing.topk_ids.gather(1, order);
}

const RouterRule* FindRouterRule(absl::string_view name) {
  for (const RouterRule& rule : kRules) {
    if (rule.name == name) {
      return &rule;
    }
  }
  return nullptr;
}

std::vector<std::string> RouterRuleNames() {
  std::vector<std::string> names;
  for (const RouterRule& rule : kRules) {
    names.emplace_back(rule.name);
  }
  return names;
}

}  // namespace moescope::model::internal
