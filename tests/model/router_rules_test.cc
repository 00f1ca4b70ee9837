#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moescope/model/config.h"
#include "server/model/router_rules_internal.h"

namespace moescope::model::internal {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::HasSubstr;
using ::testing::Not;
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
  return FindRouterRule(config.rule)->route(logits, config, at::Tensor());
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

RouterConfig RuleConfig(const char* rule, std::int64_t k) {
  RouterConfig config;
  config.rule = rule;
  config.experts_per_token = k;
  return config;
}

TEST(TopKSoftmaxTest, WeightsAreTheSoftmaxOverTheChosenLogitsAlone) {
  const Routing routing =
      Route(EighthsLogits(), RuleConfig("topk_softmax", 2));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(2, 1));
  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(FloatEq(2.0F / 3.0F), FloatEq(1.0F / 3.0F)));
  EXPECT_THAT(
      Floats(routing.scores),
      Pointwise(FloatEq(), std::vector<float>{0.125F, 0.25F, 0.5F, 0.125F}));
  EXPECT_THAT(Floats(routing.margin), ElementsAre(FloatEq(0.125F)));
}

// Their softmax over all is 0 in fp32; the logits still tell them apart.
TEST(TopKSoftmaxTest, ChoosesByLogitsWhereScoresVanish) {
  const Routing routing = Route(Logits({0, -300, -200}, 3),
                                RuleConfig("topk_softmax", 2));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(0, 2));
  EXPECT_THAT(Floats(routing.margin), ElementsAre(0.0F));
}

TEST(TopKSigmoidTest, TheWeightIsTheSigmoidOfTheLogit) {
  const Routing routing =
      Route(Logits({0.0F, std::log(3.0F), -1.0F}, 3),
            RuleConfig("topk_sigmoid", 1));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(1));
  EXPECT_THAT(Floats(routing.topk_weights), ElementsAre(FloatEq(0.75F)));
  EXPECT_FLOAT_EQ(routing.scores[0][0].item<float>(), 0.5F);
  EXPECT_THAT(Floats(routing.margin), ElementsAre(FloatEq(0.25F)));
}

RouterConfig SparseConfig(double jitter) {
  RouterConfig config = RuleConfig("sparsemixer", 2);
  config.jitter = jitter;
  return config;
}

// Threshold 2 * 0.125. First pick 4 of {4, 3.5, 2, 1}: shares 0, 0.125, 0.5,
// 0.75, so 4 and 3.5 stay; second pick 3.5 of {3.5, 2, 1}: shares 0, 0.43, 0.71,
// so 3.5 alone stays.
TEST(SparseMixerTest, WeighsEachPickAmongLogitsNearIt) {
  const Routing routing =
      Route(Logits({2.0F, 4.0F, 1.0F, 3.5F}, 4), SparseConfig(0.125));

  // The second pick weighs more, so it comes first.
  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(3, 1));
  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(FloatEq(1.0F),
                          FloatEq(1.0F / (1.0F + std::exp(-0.5F)))));
}

TEST(SparseMixerTest, AShareAtTheThresholdStays) {
  const Routing routing =
      Route(Logits({4.0F, 3.0F, 1.0F}, 3), SparseConfig(0.125));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(1, 0));
  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(FloatEq(1.0F),
                          FloatEq(1.0F / (1.0F + std::exp(-1.0F)))));
}

// Shares are of max(|logit|, largest): of -1 among negative ones (3 - 1) / 3.
TEST(SparseMixerTest, NegativeLogitsAreMeasuredByTheirOwnSize) {
  const Routing routing =
      Route(Logits({-1.0F, -3.0F, -1.25F}, 3), SparseConfig(0.125));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(2, 0));
  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(FloatEq(1.0F),
                          FloatEq(1.0F / (1.0F + std::exp(-0.25F)))));
}

TEST(SparseMixerTest, EqualLogitsGoToTheLowerIndices) {
  const Routing routing = Route(at::zeros({1, 4}), SparseConfig(0.01));

  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(1, 0));
  EXPECT_THAT(Floats(routing.topk_weights),
              ElementsAre(FloatEq(1.0F / 3.0F), FloatEq(0.25F)));
  EXPECT_THAT(Floats(routing.margin), ElementsAre(0.0F));
}

// The definition once more, in double precision and one row at a time.
std::vector<double> SparseWeights(const std::vector<double>& logits,
                                  double jitter) {
  std::vector<double> left = logits;
  std::vector<double> weights(logits.size(), 0.0);
  for (int pick = 0; pick < 2; ++pick) {
    const std::size_t best = static_cast<std::size_t>(
        std::max_element(left.begin(), left.end()) - left.begin());
    double sum = 0;
    for (std::size_t e = 0; e < left.size(); ++e) {
      const double size = std::max(std::abs(logits[e]), left[best]);
      const bool far = (left[best] - logits[e]) / size > 2 * jitter;
      sum += far ? 0.0 : std::exp(left[e] - left[best]);
    }
    weights[best] = 1.0 / sum;
    left[best] = -std::numeric_limits<double>::infinity();
  }
  return weights;
}

// Weights are at most 1 and sums of at most 16 terms: 16 roundings of 6e-8.
TEST(SparseMixerTest, FollowsTheDefinitionInDoublePrecision) {
  const at::Tensor logits = at::sin(at::arange(64 * 16).to(at::kDouble) * 1.7)
                                .view({64, 16});
  const Routing routing = Route(logits.to(at::kFloat), SparseConfig(0.1));
  const at::Tensor actual =
      at::zeros({64, 16}, at::kFloat)
          .scatter(1, routing.topk_ids, routing.topk_weights);

  double worst = 0;
  for (std::int64_t row = 0; row < 64; ++row) {
    const at::Tensor exact = logits[row].to(at::kFloat).to(at::kDouble);
    const auto* data = exact.data_ptr<double>();
    const std::vector<double> expected =
        SparseWeights(std::vector<double>(data, data + 16), 0.1);
    for (std::int64_t e = 0; e < 16; ++e) {
      worst = std::max(
          worst, std::abs(actual[row][e].item<double>() -
                          expected[static_cast<std::size_t>(e)]));
    }
  }
  EXPECT_LT(worst, 1e-6);
}

TEST(RouterRulesTest, NoRowsGiveNoRows) {
  const Routing routing = Route(at::zeros({0, 4}), SoftmaxConfig(2));

  EXPECT_EQ(routing.topk_ids.sizes(), (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(routing.margin.sizes(), (std::vector<std::int64_t>{0}));
}

// 8 experts in 4 groups of 2, of which 2 stay.
RouterConfig GroupedConfig(const char* rule, std::int64_t k) {
  RouterConfig config;
  config.rule = rule;
  config.experts_per_token = k;
  config.num_groups = 4;
  config.groups_kept = 2;
  config.masked_groups_are_zero = config.rule == "group_limited_greedy";
  return config;
}

Routing RouteCorrected(const at::Tensor& logits, const RouterConfig& config,
                       const std::vector<float>& correction) {
  return FindRouterRule(config.rule)
      ->route(logits, config, at::tensor(correction));
}

TEST(GroupedRulesTest, GroupsOfTheHighestBestExpertsStay) {
  // Best of the groups: 3, 1, 2.5, 0.
  const at::Tensor logits = Logits({0, 3, 1, 1, 2.5F, -9, 0, 0}, 8);

  const Routing routing =
      Route(logits, GroupedConfig("group_limited_greedy", 3));

  EXPECT_THAT(Ids(routing.group_mask), ElementsAre(1, 0, 1, 0));
  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(1, 4, 0));
  // Experts 2 and 3 score higher than expert 0, the lowest chosen.
  EXPECT_LT(Floats(routing.margin)[0], 0.0F);
  EXPECT_THAT(Ids(routing.depends_on_mask), ElementsAre(0));
  EXPECT_FALSE(routing.choice.defined());
}

TEST(GroupedRulesTest, GreedyWeightsAreScaledScores) {
  RouterConfig config = GroupedConfig("group_limited_greedy", 1);
  config.scaling = 16;

  const Routing routing = Route(at::zeros({1, 8}), config);

  EXPECT_THAT(Floats(routing.topk_weights), ElementsAre(FloatEq(2.0F)));
}

TEST(GroupedRulesTest, EqualGroupsGoToTheLowerIndex) {
  const Routing routing =
      Route(at::zeros({1, 8}), GroupedConfig("group_limited_greedy", 2));

  EXPECT_THAT(Ids(routing.group_mask), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(0, 1));
}

// Scores of 0.5 everywhere: the correction alone decides.
TEST(GroupedRulesTest, TheCorrectionDecidesTheChoiceAndNotTheWeight) {
  RouterConfig config = GroupedConfig("noaux_tc", 2);
  config.scaling = 2.5;

  const Routing routing =
      RouteCorrected(at::zeros({1, 8}), config, {0, 0, 4, 1, 2, 2, 3.5F, 0});

  // Sums of two: 1, 6, 5, 4.5: groups 1 and 2; expert 6 is out of them.
  EXPECT_THAT(Ids(routing.group_mask), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(Ids(routing.topk_ids), ElementsAre(2, 4));
  EXPECT_THAT(Floats(routing.topk_weights), ElementsAre(1.25F, 1.25F));
  EXPECT_FLOAT_EQ(routing.choice[0][6].item<float>(), 4.0F);
  EXPECT_FLOAT_EQ(routing.scores[0][6].item<float>(), 0.5F);
}

TEST(GroupedRulesTest, RenormalisedWeightsSumToTheScaling) {
  RouterConfig config = GroupedConfig("noaux_tc", 2);
  config.renormalise = true;
  config.scaling = 2.5;

  const Routing routing = RouteCorrected(
      at::zeros({1, 8}), config, std::vector<float>(8, 0.0F));

  EXPECT_THAT(Floats(routing.topk_weights), ElementsAre(1.25F, 1.25F));
}

// Choice values below 0: an expert of a masked group beats them if it counts
// as 0.
TEST(GroupedRulesTest, NegativeChoicesDependOnTheValueOfMaskedGroups) {
  RouterConfig config = GroupedConfig("noaux_tc", 3);
  const std::vector<float> correction = {-1, -1, -1, -1, -2, -2, -2, -2};

  const Routing lowest = RouteCorrected(at::zeros({1, 8}), config, correction);
  config.masked_groups_are_zero = true;
  const Routing zero = RouteCorrected(at::zeros({1, 8}), config, correction);

  EXPECT_THAT(Ids(lowest.topk_ids), ElementsAre(0, 1, 2));
  EXPECT_THAT(Ids(zero.topk_ids), ElementsAre(4, 5, 6));
  EXPECT_THAT(Ids(lowest.depends_on_mask), ElementsAre(1));
  EXPECT_THAT(Ids(zero.depends_on_mask), ElementsAre(1));
}

TEST(GroupedRulesTest, PositiveChoicesDoNot) {
  const Routing routing =
      RouteCorrected(at::zeros({1, 8}), GroupedConfig("noaux_tc", 3),
                     std::vector<float>(8, 0.25F));

  EXPECT_THAT(Ids(routing.depends_on_mask), ElementsAre(0));
}

class RuleWordsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(RuleWordsTest, NameTheScoreFunction) {
  ModelConfig config;
  config.num_experts = 8;
  config.router.rule = GetParam();

  const std::string words = DescribeRouter(config);

  // Of a rule without words of its own.
  EXPECT_THAT(words, Not(HasSubstr("rule " + GetParam())));
  EXPECT_THAT(words, AnyOf(HasSubstr("softmax"), HasSubstr("sigmoid")));
}

INSTANTIATE_TEST_SUITE_P(Rules, RuleWordsTest,
                         ::testing::ValuesIn(RouterRuleNames()),
                         [](const auto& row) { return row.param; });

TEST(RouterRulesTest, ARuleWithoutThemShowsItsName) {
  ModelConfig config;
  config.num_experts = 8;
  config.router.rule = "new";

  EXPECT_THAT(DescribeRouter(config), HasSubstr("rule new over 8"));
}

}  // namespace
}  // namespace moescope::model::internal
