#include "moescope/numerics/activation_accumulator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "moescope/numerics/instruction_set.h"

namespace moescope::numerics {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsNan;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

ActivationOptions SmallOptions() {
  ActivationOptions options;
  options.num_experts = 1;
  options.num_neurons = 2;
  options.thresholds = {1, 0.5};
  options.histogram_edges = {-1, 0, 1};
  options.top_tokens = 2;
  return options;
}

std::unique_ptr<ActivationAccumulator> Make(const ActivationOptions& options) {
  return *ActivationAccumulator::Create(options);
}

absl::Status Add(ActivationAccumulator& accumulator,
                 const std::vector<float>& values,
                 const std::vector<std::uint8_t>& routed,
                 std::int64_t first_token = 0, std::int64_t expert = 0) {
  const std::int64_t width = accumulator.options().num_neurons;
  ActivationBlock block;
  block.expert = expert;
  block.first_token = first_token;
  block.values = values.data();
  block.rows = static_cast<std::int64_t>(values.size()) / width;
  block.row_stride = width;
  block.routed = routed;
  return accumulator.Add(block);
}

// Values of 200 tokens and 13 neurons; many equal, so that ties matter.
std::vector<float> Draws() {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> draw(-40, 40);
  std::vector<float> values(200 * 13);
  for (float& value : values) {
    value = static_cast<float>(draw(random)) * 0.1F;
  }
  return values;
}

std::vector<std::uint8_t> EveryThird() {
  std::vector<std::uint8_t> routed(200);
  for (std::size_t i = 0; i < routed.size(); i += 3) {
    routed[i] = 1;
  }
  return routed;
}

ActivationOptions DrawOptions() {
  ActivationOptions options;
  options.num_experts = 1;
  options.num_neurons = 13;
  options.thresholds = {1.05, 0.0};
  options.histogram_edges = {-1.05, 0.05, 2.05, 2.15};
  options.top_tokens = 3;
  return options;
}

class ActivationAccumulatorTest
    : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ForceInstructionSetForTest(GetParam()).ok());
  }
  void TearDown() override { ASSERT_TRUE(ForceInstructionSetForTest("").ok()); }
};
INSTANTIATE_TEST_SUITE_P(
    Sets, ActivationAccumulatorTest,
    ::testing::ValuesIn(AvailableInstructionSets()),
    [](const auto& set) { return set.param; });

TEST_P(ActivationAccumulatorTest, IsExactForSmallIntegers) {
  const auto accumulator = Make(SmallOptions());
  ASSERT_TRUE(Add(*accumulator, {2, -3, 0, 1, -2, 5, 4, 1}, {1, 0, 0, 1}).ok());

  const ActivationStatistics s = accumulator->Finish();

  EXPECT_THAT(s.tokens, ElementsAre(4));
  EXPECT_THAT(s.routed_tokens, ElementsAre(2));
  EXPECT_THAT(s.fraction, ElementsAre(5 / 8.0, 7 / 8.0));
  EXPECT_THAT(s.fraction_routed, ElementsAre(3 / 4.0, 1));
  EXPECT_THAT(s.expert_fraction, ElementsAre(5 / 8.0, 7 / 8.0));
  EXPECT_THAT(s.expert_fraction_routed, ElementsAre(3 / 4.0, 1));
  EXPECT_THAT(s.neuron.frequency, ElementsAre(0.75, 0.5));
  EXPECT_THAT(s.neuron.mean, ElementsAre(1, 1));
  EXPECT_THAT(s.neuron.mean_abs, ElementsAre(2, 2.5));
  EXPECT_THAT(s.neuron.max, ElementsAre(4, 5));
  EXPECT_THAT(s.neuron.second_moment, ElementsAre(6, 9));
  EXPECT_THAT(s.neuron_routed.frequency, ElementsAre(1, 0.5));
  EXPECT_THAT(s.neuron_routed.mean, ElementsAre(3, -1));
  EXPECT_THAT(s.neuron_routed.mean_abs, ElementsAre(3, 2));
  EXPECT_THAT(s.neuron_routed.max, ElementsAre(4, 1));
  EXPECT_THAT(s.neuron_routed.second_moment, ElementsAre(10, 5));
  // Below -1: -3, -2. [-1, 0): none. [0, 1): 0. From 1 on: five.
  EXPECT_THAT(s.histogram, ElementsAre(2, 0, 1, 5));
  EXPECT_THAT(s.top_values, ElementsAre(4, 2, 5, 1));
  // Tokens 1 and 3 both have 1: the earlier one stays.
  EXPECT_THAT(s.top_tokens, ElementsAre(3, 0, 2, 1));
  // Threshold 1 is met exactly twice.
  EXPECT_EQ(s.near_threshold, 2);
  EXPECT_THAT(s.nonfinite, ElementsAre(0));
}

TEST_P(ActivationAccumulatorTest, GivesTheSameBitsWithEveryInstructionSet) {
  const auto accumulator = Make(DrawOptions());
  ASSERT_TRUE(Add(*accumulator, Draws(), EveryThird()).ok());
  ASSERT_TRUE(ForceInstructionSetForTest("scalar").ok());
  const auto scalar = Make(DrawOptions());
  ASSERT_TRUE(Add(*scalar, Draws(), EveryThird()).ok());

  EXPECT_TRUE(accumulator->Serialize() == scalar->Serialize());
}

TEST_P(ActivationAccumulatorTest, DoesNotDependOnHowRowsAreCut) {
  const std::vector<float> values = Draws();
  const std::vector<std::uint8_t> routed = EveryThird();
  const auto whole = Make(DrawOptions());
  ASSERT_TRUE(Add(*whole, values, routed).ok());
  const auto parts = Make(DrawOptions());
  ASSERT_TRUE(Add(*parts, {values.begin(), values.begin() + 7 * 13},
                  {routed.begin(), routed.begin() + 7})
                  .ok());
  ASSERT_TRUE(Add(*parts, {values.begin() + 7 * 13, values.end()},
                  {routed.begin() + 7, routed.end()}, 7)
                  .ok());

  EXPECT_TRUE(whole->Serialize() == parts->Serialize());
}

TEST_P(ActivationAccumulatorTest, AgreesWithSortingForTopTokens) {
  const std::vector<float> values = Draws();
  const auto accumulator = Make(DrawOptions());
  ASSERT_TRUE(Add(*accumulator, values, EveryThird()).ok());
  std::vector<std::int64_t> expected;
  for (std::size_t f = 0; f < 13; ++f) {
    std::vector<std::int64_t> order(200);
    for (std::size_t t = 0; t < order.size(); ++t) {
      order[t] = static_cast<std::int64_t>(t);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) {
                       return values[static_cast<std::size_t>(a) * 13 + f] >
                              values[static_cast<std::size_t>(b) * 13 + f];
                     });
    expected.insert(expected.end(), order.begin(), order.begin() + 3);
  }

  EXPECT_EQ(accumulator->Finish().top_tokens, expected);
}

TEST_P(ActivationAccumulatorTest, ReportsNonfiniteValuesAndNeverAverages) {
  const auto accumulator = Make(SmallOptions());
  ASSERT_TRUE(
      Add(*accumulator, {kNan, 1, 3, HUGE_VALF, 2, 2}, {0, 1, 0}).ok());

  const ActivationStatistics s = accumulator->Finish();

  EXPECT_THAT(s.nonfinite, ElementsAre(2));
  EXPECT_THAT(s.neuron.mean, ElementsAre(IsNan(), HUGE_VAL));
  EXPECT_THAT(s.neuron.max, ElementsAre(IsNan(), IsNan()));
  EXPECT_THAT(s.neuron_routed.mean, ElementsAre(3, HUGE_VAL));
  EXPECT_THAT(s.neuron_routed.max, ElementsAre(3, IsNan()));
  EXPECT_THAT(s.fraction, ElementsAre(3 / 6.0, 4 / 6.0));
  EXPECT_THAT(s.histogram, ElementsAre(0, 0, 0, 4));
  EXPECT_THAT(s.top_values, ElementsAre(3, 2, 2, 1));
  EXPECT_THAT(s.top_tokens, ElementsAre(1, 2, 2, 0));
}

TEST_P(ActivationAccumulatorTest, GoesOnFromItsBytesExactly) {
  const std::vector<float> values = Draws();
  const std::vector<std::uint8_t> routed = EveryThird();
  const auto whole = Make(DrawOptions());
  ASSERT_TRUE(Add(*whole, values, routed).ok());
  const auto before = Make(DrawOptions());
  ASSERT_TRUE(Add(*before, {values.begin(), values.begin() + 90 * 13},
                  {routed.begin(), routed.begin() + 90})
                  .ok());

  const auto resumed =
      *ActivationAccumulator::Deserialize(DrawOptions(), before->Serialize());
  ASSERT_TRUE(Add(*resumed, {values.begin() + 90 * 13, values.end()},
                  {routed.begin() + 90, routed.end()}, 90)
                  .ok());

  EXPECT_TRUE(resumed->Serialize() == whole->Serialize());
}

TEST(ActivationMergeTest, AddsUpWhatBothSaw) {
  const auto first = Make(SmallOptions());
  const auto second = Make(SmallOptions());
  const auto both = Make(SmallOptions());
  ASSERT_TRUE(Add(*first, {2, -3, 0, 1}, {1, 0}).ok());
  ASSERT_TRUE(Add(*second, {-2, 5, 4, 1}, {0, 1}, 2).ok());
  ASSERT_TRUE(Add(*both, {2, -3, 0, 1, -2, 5, 4, 1}, {1, 0, 0, 1}).ok());

  ASSERT_TRUE(first->Merge(*second).ok());

  EXPECT_TRUE(first->Serialize() == both->Serialize());
}

TEST(ActivationMergeTest, KeepsTheEarlierTokenWhateverTheOrder) {
  const auto first = Make(SmallOptions());
  const auto second = Make(SmallOptions());
  ASSERT_TRUE(Add(*first, {1, 1}, {0}, /*first_token=*/9).ok());
  ASSERT_TRUE(Add(*second, {1, 1}, {0}, /*first_token=*/4).ok());

  ASSERT_TRUE(first->Merge(*second).ok());

  // Two rows were seen, so two places are given.
  EXPECT_THAT(first->Finish().top_tokens, ElementsAre(4, 9, 4, 9));
}

TEST(ActivationMergeTest, RefusesOtherOptions) {
  ActivationOptions other = SmallOptions();
  other.thresholds = {1};

  const absl::Status status =
      Make(SmallOptions())->Merge(*Make(other));

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "later: was made with other options");
}

TEST(ActivationFinishTest, IsZeroWhereNothingWasSeen) {
  ActivationOptions options = SmallOptions();
  options.num_experts = 2;
  const auto accumulator = Make(options);
  ASSERT_TRUE(Add(*accumulator, {2, 2}, {0}, 0, /*expert=*/1).ok());

  const ActivationStatistics s = accumulator->Finish();

  EXPECT_THAT(s.tokens, ElementsAre(0, 1));
  EXPECT_THAT(s.fraction, ElementsAre(1, 1));
  EXPECT_THAT(s.fraction_routed, ElementsAre(0, 0));
  EXPECT_THAT(s.neuron.max, ElementsAre(0, 0, 2, 2));
  EXPECT_THAT(s.neuron_routed.max, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(s.num_top, 1);
  EXPECT_THAT(s.top_tokens, ElementsAre(-1, -1, 0, 0));
  EXPECT_THAT(s.top_values, ElementsAre(IsNan(), IsNan(), 2, 2));
}

TEST(ActivationBytesTest, RefusesDamage) {
  std::string bytes = Make(SmallOptions())->Serialize();
  bytes.back() = static_cast<char>(bytes.back() ^ 1);

  const auto loaded = ActivationAccumulator::Deserialize(SmallOptions(), bytes);

  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("checksum"));
}

TEST(ActivationBytesTest, RefusesAPartAndNothingAtAll) {
  const std::string bytes = Make(SmallOptions())->Serialize();

  EXPECT_EQ(ActivationAccumulator::Deserialize(
                SmallOptions(), bytes.substr(0, bytes.size() / 2))
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(ActivationAccumulator::Deserialize(SmallOptions(), "")
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
}

TEST(ActivationBytesTest, RefusesTheBytesOfOtherOptions) {
  ActivationOptions other = SmallOptions();
  other.num_neurons = 3;

  const auto loaded = ActivationAccumulator::Deserialize(
      other, Make(SmallOptions())->Serialize());

  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(loaded.status().message()),
              HasSubstr("other options"));
}

TEST(ActivationOptionsTest, NameTheFieldThatIsWrong) {
  ActivationOptions edges = SmallOptions();
  edges.histogram_edges = {0, 0};
  ActivationOptions thresholds = SmallOptions();
  thresholds.thresholds = {-1};
  ActivationOptions none = SmallOptions();
  none.thresholds.clear();

  EXPECT_EQ(ActivationAccumulator::Create(edges).status().message(),
            "histogram_edges[1]: 0 does not ascend");
  EXPECT_EQ(ActivationAccumulator::Create(thresholds).status().message(),
            "thresholds[0]: -1 is no number from 0 on");
  EXPECT_EQ(ActivationAccumulator::Create(none).status().message(),
            "thresholds: is empty, at least 1 is needed");
}

TEST(ActivationBlockTest, OfAnUnknownExpertIsOutOfRange) {
  const absl::Status status =
      Add(*Make(SmallOptions()), {1, 2}, {0}, 0, /*expert=*/1);

  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(status.message(), "block.expert: 1 is outside [0, 0]");
}

TEST(ActivationBlockTest, NeedsOneRoutedEntryPerRow) {
  const absl::Status status = Add(*Make(SmallOptions()), {1, 2}, {0, 1});

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "block.routed: has 2 entries for 1 rows");
}

}  // namespace
}  // namespace moescope::numerics
