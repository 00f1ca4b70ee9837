#include "moescope/model/config.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/bounded_json_internal.h"
#include "server/model/config_reader_internal.h"
#include "server/model/families/family_internal.h"

namespace moescope::model {

std::int64_t ModelConfig::QueryWidth() const {
  return attention.kind == AttentionKind::kLatent
             ? attention.nope_dim + attention.rope_dim
             : head_dim;
}

std::int64_t ModelConfig::ValueWidth() const {
  return attention.kind == AttentionKind::kLatent ? attention.value_dim
                                                  : head_dim;
}

std::int64_t ModelConfig::RotatedWidth() const {
  if (attention.kind == AttentionKind::kLatent) return attention.rope_dim;
  return rope.dim == 0 ? head_dim : rope.dim;
}

std::vector<std::int64_t> ModelConfig::MoeLayers() const {
  std::vector<std::int64_t> moe_layers;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].is_moe) moe_layers.push_back(static_cast<std::int64_t>(i));
  }
  return moe_layers;
}

namespace {

// What experts of masked groups count as.
std::string DescribeMasked(bool own, std::optional<bool> asked) {
  const auto word = [](bool zero) { return zero ? "0" : "-infinity"; };
  if (asked.value_or(own) == own) return word(own);
  return absl::StrCat(word(!own), " as asked for, not ", word(own),
                      " as the model has it");
}

std::string DescribeGroups(const RouterConfig& router, std::int64_t num_experts,
                           std::optional<bool> masked_groups_are_zero) {
  const bool sigmoid = router.rule == "noaux_tc";
  std::string text =
      absl::StrCat(sigmoid ? "sigmoid" : "softmax", " over ", num_experts);
  if (sigmoid) absl::StrAppend(&text, ", choice by score plus correction bias");
  if (router.num_groups > 1) {
    absl::StrAppend(&text, ", ", router.groups_kept, " of ", router.num_groups,
                    " groups by ",
                    sigmoid ? "the sum of their two best" : "their best",
                    " (others count as ",
                    DescribeMasked(router.masked_groups_are_zero,
                                   masked_groups_are_zero),
                    ")");
  }
  absl::StrAppend(&text, ", top-", router.experts_per_token, ", ",
                  router.renormalise ? "renormalised" : "not renormalised");
  return text;
}

// The rules of router_rules.cc in words.
std::string DescribeRule(const RouterConfig& router, std::int64_t num_experts,
                         std::optional<bool> masked_groups_are_zero) {
  const std::string top_of_logits = absl::StrCat(
      "top-", router.experts_per_token, " of ", num_experts, " logits, ");
  if (router.rule == "topk_softmax") {
    return absl::StrCat(top_of_logits, "softmax over the chosen");
  }
  if (router.rule == "topk_sigmoid") {
    return absl::StrCat(top_of_logits, "sigmoid of each");
  }
  if (router.rule == "sparsemixer") {
    return absl::StrCat("sparsemixer over ", num_experts,
                        ", two picks, each weighted by the softmax over the "
                        "logits at most ", 200 * router.jitter,
                        "% below it, not renormalised");
  }
  if (router.rule == "group_limited_greedy" || router.rule == "noaux_tc") {
    return DescribeGroups(router, num_experts, masked_groups_are_zero);
  }
  const std::string scores = router.rule == "softmax_topk"
                                 ? "softmax"
                                 : absl::StrCat("rule ", router.rule);
  return absl::StrCat(scores, " over ", num_experts, ", top-",
                      router.experts_per_token, ", ",
                      router.renormalise ? "renormalised"
                                         : "not renormalised");
}

// Views of each are made when a checkpoint is opened: a small file must not ask
// for billions. DeepSeek-V3 has 15,616.
absl::Status CheckNumberOfExperts(const ModelConfig& config) {
  constexpr std::int64_t kMost = std::int64_t{1} << 20;
  const std::int64_t experts = config.num_layers * config.num_experts;
  if (experts <= kMost) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "number of experts: ", config.num_experts, " in each of ",
      config.num_layers, " layers are ", experts, ", must be at most ", kMost));
}

}  // namespace

absl::StatusOr<ModelConfig> ParseConfig(absl::string_view json_text) {
  MOESCOPE_ASSIGN_OR_RETURN(const nlohmann::json object,
                            internal::ParseJsonObject(json_text));
  const internal::ConfigReader json(object);
  ModelConfig config;
  MOESCOPE_ASSIGN_OR_RETURN(const internal::Family* family,
                            internal::FindFamily(json));
  MOESCOPE_ASSIGN_OR_RETURN(config.model_type,
                            json.StringOr("model_type", ""));
  config.family = family->name;
  MOESCOPE_RETURN_IF_ERROR(family->parse(json, config));
  MOESCOPE_RETURN_IF_ERROR(CheckNumberOfExperts(config));
  const bool all_moe =
      std::all_of(config.layers.begin(), config.layers.end(),
                  [](const LayerConfig& layer) { return layer.is_moe; });
  // Some families' keys have one anyway.
  if (all_moe) config.dense_width = 0;
  if (config.MoeLayers().empty()) config.num_experts = 0;
  return config;
}

std::string DescribeRouter(const ModelConfig& config,
                           std::optional<bool> masked_groups_are_zero) {
  if (config.num_experts == 0) return "no router: all layers are dense";
  const RouterConfig& router = config.router;
  std::string text = DescribeRule(router, config.num_experts,
                                  masked_groups_are_zero);
  if (router.scaling != 1.0) {
    absl::StrAppend(&text, ", times ", router.scaling);
  }
  if (router.scales_input) {
    absl::StrAppend(&text, "; the weight multiplies the expert's input");
  }
  if (config.attention.kind == AttentionKind::kMixture) {
    absl::StrAppend(&text, "; a second router chooses the attention's query "
                           "heads by the same rule");
  }
  return text;
}

}  // namespace moescope::model
