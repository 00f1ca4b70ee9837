#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "server/model/router_rules_internal.h"

namespace moescope::model::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::Pointwise;

at::Tensor Logits(std::vector<float> values, std::int64_t experts) {
  return at::tensor(values).view({-1, experts});
}

std::vector<float> Floats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  const auto* data = flat.data_ptr<float>();
  return std::vector<float>(data, data + flat.numel());
}

std::vector<std::int64_t> Ids(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  const auto* data = flat.data_ptr<std::int64_t>();
  return std::vector<std::int64_t>(data, data + flat.numel());
}

RouterConfig SoftmaxConfig(std::int64_t k) {
  RouterConfig config;
  config.rule = "softmax_topk";
  config.experts_per_token = k;
  return config;
}

Routing Route(const at::Tensor& logits, const RouterConfig& config) {
  return FindRouterRule(config.rule)->route(logits, config);
}

// Logits ln 1, ln 2, ln 4, ln 1: scores 1/8, 2/8, 4/8, 1/8.
at::Tensor EighthsLogits() {
  return Logits({0.0F, std::log(2.0F), std::log(4.0F), 0.0F}, 4);
}

TEST(RouterRulesTest, FindsARuleByItsName) {
  ASSERT_NE(FindRouterRule("softmax_topk"), nullptr);
  EXPECT_EQ(FindRouterRule("softmax_topk")->name, "softmax_topk");
}

TEST(RouterRulesTest, KnowsNoRuleOfAnotherName) {
  EXPECT_EQ(FindRouterRule("softmax"), nullptr);
}

TEST(RouterRulesTest, ScoresAreTheSoftmaxOverAllExperts) {
  const Routing routing = Route(EighthsLogits(), SoftmaxConfig(2));

  EXPECT_THAT(
      Floats(routing.scores),
      Pointwise(FloatEq(), std::vector<float>{0.125F, 0.25F, 0.5F, 0.125F}));
}

TEST(RouterRulesTest, WeightsAreTheScoresWithoutRenormalisation) {
  const Routing routing = Route(EighthsLogits(), SoftmaxConfig(2));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(2, 1));
  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(FloatEq(0.5F), FloatEq(0.25F)));
}

TEST(RouterRulesTest, RenormalisedWeightsSumToOne) {
  RouterConfig config = SoftmaxConfig(2);
  config.renormalise = true;

  const Routing routing = Route(EighthsLogits(), config);

  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(FloatEq(2.0F / 3.0F), FloatEq(1.0F / 3.0F)));
}

TEST(RouterRulesTest, ScalingMultipliesTheWeightsAndLeavesTheScores) {
  RouterConfig config = SoftmaxConfig(2);
  config.scaling = 16.0;

  const Routing routing = Route(EighthsLogits(), config);

  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(FloatEq(8.0F), FloatEq(4.0F)));
  EXPECT_FLOAT_EQ(routing.scores[0][2].item<float>(), 0.5F);
}

TEST(RouterRulesTest, MarginIsTheLowestChosenMinusTheHighestOther) {
  const Routing routing = Route(EighthsLogits(), SoftmaxConfig(2));

  EXPECT_THAT(Floats(routing.margin), ElementsAre(FloatEq(0.125F)));
}

TEST(RouterRulesTest, MarginIsInfiniteWhenAllExpertsAreChosen) {
  const Routing routing = Route(EighthsLogits(), SoftmaxConfig(4));

  EXPECT_THAT(Floats(routing.margin),
              ElementsAre(std::numeric_limits<float>::infinity()));
}

TEST(RouterRulesTest, EqualScoresGoToTheLowerIndex) {
  const Routing routing = Route(at::zeros({1, 200}), SoftmaxConfig(5));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Floats(routing.margin), ElementsAre(0.0F));
}

TEST(RouterRulesTest, ATieBehindTheLargestGoesToTheLowerIndex) {
  const Routing routing =
      Route(Logits({1.0F, 0.0F, 3.0F, 1.0F, 1.0F}, 5), SoftmaxConfig(2));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(2, 0));
  EXPECT_THAT(Floats(routing.margin), ElementsAre(0.0F));
}

TEST(RouterRulesTest, EveryRowIsRoutedForItself) {
  const Routing routing =
      Route(Logits({0, 1, 2, 2, 1, 0, 1, 2, 0}, 3), SoftmaxConfig(1));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(2, 0, 1));
}

TEST(RouterRulesTest, ReorderingByWeightKeepsTheOrderOfSelectionAmongEquals) {
  Routing routing;
  routing.topk_ids = at::tensor({7, 3, 5, 1}, at::kLong).view({1, 4});
  routing.topk_weights = Logits({0.25F, 0.5F, 0.25F, 0.25F}, 4);

  OrderByWeight(routing);

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(3, 7, 5, 1));
  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(0.5F, 0.25F, 0.25F, 0.25F));
}

TEST(RouterRulesTest, NoRowsGiveNoRows) {
  const Routing routing = Route(at::zeros({0, 4}), SoftmaxConfig(2));

  EXPECT_EQ(routing.topk_ids.sizes(), (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(routing.margin.sizes(), (std::vector<std::int64_t>{0}));
}

}  // namespace
}  // namespace moescope::model::internal
