#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <limits>
#include <tuple>

#include "server/model/router_rules_internal.h"

namespace moescope::model::internal {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// scores = softmax(logits) over all E in fp32; the K largest scores are chosen
// and are the weights, divided by their sum if `renormalise`, times `scaling`.
// Mixtral 8x7B (renormalised), DeepSeekMoE 16B, OLMoE, Qwen MoE, DBRX.
Routing SoftmaxTopK(const at::Tensor& logits, const RouterConfig& config,
                    const at::Tensor& /*correction*/) {
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

// Lowest chosen minus highest other score of each row.
at::Tensor ScoreMargin(const at::Tensor& scores, const at::Tensor& ids) {
  if (ids.size(1) == scores.size(1)) {
    return at::full({scores.size(0)}, kInfinity, scores.options());
  }
  const at::Tensor others = scores.scatter(1, ids, -kInfinity);
  return scores.gather(1, ids).amin(1) - others.amax(1);
}

// The K largest logits are chosen; the weights are the softmax over these
// alone. scores = softmax over all E. GPT-OSS, JetMoE, Mixtral's first port.
Routing TopKSoftmax(const at::Tensor& logits, const RouterConfig& config,
                    const at::Tensor& /*correction*/) {
  const at::Tensor raw = logits.to(at::kFloat);
  Routing routing;
  routing.scores = at::softmax(raw, -1);  // [T, E]
  routing.topk_ids = SelectTopK(raw, config.experts_per_token).ids;
  routing.margin = ScoreMargin(routing.scores, routing.topk_ids);
  routing.topk_weights = at::softmax(raw.gather(1, routing.topk_ids), -1);
  OrderByWeight(routing);
  return routing;
}

// The K largest logits are chosen; each weight is the sigmoid of its own logit.
// scores = sigmoid over all E. Llama 4.
Routing TopKSigmoid(const at::Tensor& logits, const RouterConfig& config,
                    const at::Tensor& /*correction*/) {
  const at::Tensor raw = logits.to(at::kFloat);
  Routing routing;
  routing.scores = at::sigmoid(raw);  // [T, E]
  routing.topk_ids = SelectTopK(raw, config.experts_per_token).ids;
  routing.margin = ScoreMargin(routing.scores, routing.topk_ids);
  routing.topk_weights = routing.scores.gather(1, routing.topk_ids);
  OrderByWeight(routing);
  return routing;
}

// One pick of sparsemixer: the largest of `left` (the logits without earlier
// picks), weighted by the softmax over those of `left` that are within
// 2 jitter of it, as a share of max(|logit|, largest).
struct SparsePick {
  at::Tensor id;      // [T, 1]
  at::Tensor weight;  // [T, 1]
};
SparsePick PickSparsely(const at::Tensor& logits, const at::Tensor& left,
                        double jitter) {
  SparsePick pick;
  pick.id = SelectTopK(left, 1).ids;
  const at::Tensor top = left.gather(1, pick.id);               // [T, 1]
  const at::Tensor share = (top - logits) / logits.abs().maximum(top);
  const at::Tensor near = left.masked_fill(
      share > 2 * jitter, -std::numeric_limits<double>::infinity());
  pick.weight = at::softmax(near, -1).gather(1, pick.id);
  return pick;
}

// Two picks, the second without the first one's expert; their weights are
// independent of each other and do not sum to 1. The rule at inference has the
// jitter's threshold, but no noise. scores = softmax over all E. Phi-3.5-MoE
// (modeling_phimoe.py, sparsemixer; arXiv 2409.12136).
Routing SparseMixer(const at::Tensor& logits, const RouterConfig& config,
                    const at::Tensor& /*correction*/) {
  const at::Tensor raw = logits.to(at::kFloat);
  const SparsePick first = PickSparsely(raw, raw, config.jitter);
  const SparsePick second = PickSparsely(
      raw,
      raw.scatter(1, first.id, -std::numeric_limits<double>::infinity()),
      config.jitter);
  Routing routing;
  routing.scores = at::softmax(raw, -1);  // [T, E]
  routing.topk_ids = at::cat({first.id, second.id}, 1);
  routing.topk_weights = at::cat({first.weight, second.weight}, 1);
  routing.margin = ScoreMargin(routing.scores, routing.topk_ids);
  OrderByWeight(routing);
  return routing;
}

// `values` [T, E] with the experts of all but the kept groups set to `fill`.
// `mask` [T, G].
at::Tensor FillOthers(const at::Tensor& values, const at::Tensor& mask,
                      double fill) {
  const std::int64_t size = values.size(1) / mask.size(1);
  const at::Tensor kept =
      mask.repeat_interleave(size, /*dim=*/1).to(at::kBool);  // [T, E]
  return values.masked_fill(kept.logical_not(), fill);
}

// Chooses among `values` [T, E] within the groups of the highest `group_scores`
// [T, G]; fills topk_ids, group_mask and depends_on_mask. Returns what was
// compared: [T, E].
at::Tensor ChooseInGroups(const at::Tensor& values,
                          const at::Tensor& group_scores,
                          const RouterConfig& config, Routing& routing) {
  const at::Tensor groups = SelectTopK(group_scores, config.groups_kept).ids;
  routing.group_mask = at::zeros(group_scores.sizes(), groups.options())
                           .scatter(1, groups, 1);
  const bool zero = config.masked_groups_are_zero;
  const std::int64_t k = config.experts_per_token;
  const at::Tensor compared =
      FillOthers(values, routing.group_mask, zero ? 0.0 : -kInfinity);
  routing.topk_ids = SelectTopK(compared, k).ids;
  const at::Tensor others =
      SelectTopK(
          FillOthers(values, routing.group_mask, zero ? -kInfinity : 0.0), k)
          .ids;
  const auto sorted = [](const at::Tensor& ids) {
    return std::get<0>(ids.sort(/*dim=*/1));
  };
  routing.depends_on_mask = sorted(routing.topk_ids)
                                .ne(sorted(others))
                                .any(1)
                                .to(at::kLong);
  return compared;
}

at::Tensor ByGroup(const at::Tensor& values, std::int64_t groups) {
  const std::int64_t experts = values.size(1);
  return values.view({values.size(0), groups, experts / groups});
}

// scores = softmax over all E. A group counts as its best expert; experts of
// other groups compare as 0, or -infinity. Weights are what was compared times
// `scaling`, never renormalised. DeepSeek-V2 (arXiv 2405.04434, section 2.2.2;
// transformers 5.23, modeling_deepseek_v2.py).
Routing GroupLimitedGreedy(const at::Tensor& logits, const RouterConfig& config,
                           const at::Tensor& /*correction*/) {
  Routing routing;
  routing.scores = at::softmax(logits.to(at::kFloat), -1);  // [T, E]
  const at::Tensor compared = ChooseInGroups(
      routing.scores, ByGroup(routing.scores, config.num_groups).amax(2),
      config, routing);
  routing.margin = ScoreMargin(routing.scores, routing.topk_ids);
  routing.topk_weights =
      compared.gather(1, routing.topk_ids) * config.scaling;
  OrderByWeight(routing);
  return routing;
}

// scores = sigmoid over all E; the choice goes by scores + correction. A group
// counts as the sum of its two best; experts of other groups compare as
// -infinity, or 0. Weights are the scores without the correction, divided by
// their sum if `renormalise`, times `scaling`. DeepSeek-V3 (arXiv 2412.19437,
// section 2.1.2; transformers 5.23, modeling_deepseek_v3.py).
Routing NoAuxTopK(const at::Tensor& logits, const RouterConfig& config,
                  const at::Tensor& correction) {
  Routing routing;
  routing.scores = at::sigmoid(logits.to(at::kFloat));  // [T, E]
  routing.choice = routing.scores + correction;
  const at::Tensor best = std::get<0>(
      ByGroup(routing.choice, config.num_groups).topk(2, /*dim=*/2));
  ChooseInGroups(routing.choice, best.sum(2), config, routing);
  routing.margin = ScoreMargin(routing.scores, routing.topk_ids);
  routing.topk_weights = routing.scores.gather(1, routing.topk_ids);  // [T, K]
  if (config.renormalise) {
    // The publisher's guard against a sum of 0.
    routing.topk_weights = routing.topk_weights /
                           (routing.topk_weights.sum(-1, true) + 1e-20);
  }
  routing.topk_weights = routing.topk_weights * config.scaling;
  OrderByWeight(routing);
  return routing;
}

constexpr std::array<RouterRule, 6> kRules = {{
    {"softmax_topk", &SoftmaxTopK},
    {"topk_softmax", &TopKSoftmax},
    {"topk_sigmoid", &TopKSigmoid},
    {"sparsemixer", &SparseMixer},
    {"group_limited_greedy", &GroupLimitedGreedy},
    {"noaux_tc", &NoAuxTopK},
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
