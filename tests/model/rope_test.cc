#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "server/model/rope_internal.h"

namespace moescope::model::internal {
namespace {

using ::testing::DoubleEq;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

constexpr double kPi = 3.14159265358979323846;

RopeConfig Rope(const char* kind, double theta, double factor,
                std::int64_t original) {
  RopeConfig rope;
  rope.kind = kind;
  rope.theta = theta;
  rope.factor = factor;
  rope.original_positions = original;
  return rope;
}

// theta^(-2i / dim), straight from the definition.
std::vector<double> Plain(double theta, int dim) {
  std::vector<double> inverse;
  for (int i = 0; i < dim; i += 2) {
    inverse.push_back(std::exp(-std::log(theta) * i / dim));
  }
  return inverse;
}

std::vector<double> Times(std::vector<double> values, double factor) {
  for (double& value : values) value *= factor;
  return values;
}

::testing::Matcher<std::vector<double>> Near(const std::vector<double>& all) {
  std::vector<::testing::Matcher<double>> each;
  for (const double value : all) {
    each.push_back(DoubleNear(value, 1e-14 * value));
  }
  return ::testing::ElementsAreArray(each);
}

TEST(RopeTest, DefaultFrequenciesArePowersOfTheta) {
  const RopeFrequencies rope =
      FrequenciesFor(Rope("default", 10000, 1, 0), 8, 100);

  EXPECT_THAT(rope.inverse, Near({1.0, 0.1, 0.01, 0.001}));
  EXPECT_EQ(rope.factor, 1.0);
}

TEST(RopeTest, LinearScalingDividesPositions) {
  const RopeFrequencies rope =
      FrequenciesFor(Rope("linear", 500, 8, 64), 10, 100);

  EXPECT_THAT(rope.inverse, Near(Times(Plain(500, 10), 1.0 / 8)));
}

TEST(RopeTest, DynamicScalingIsNoneUpToTheOriginalLength) {
  const RopeFrequencies rope =
      FrequenciesFor(Rope("dynamic", 10000, 4, 64), 8, 64);

  EXPECT_THAT(rope.inverse, Near(Plain(10000, 8)));
}

TEST(RopeTest, DynamicScalingRaisesThetaWithTheLength) {
  // theta (4 · 96 / 64 - 3)^(8 / 6)
  const RopeFrequencies rope =
      FrequenciesFor(Rope("dynamic", 10000, 4, 64), 8, 96);

  EXPECT_THAT(rope.inverse,
              Near(Plain(10000 * std::pow(3.0, 8.0 / 6.0), 8)));
}

// dim 8, theta 10000, original 4096: pair d turns 4096 · theta^(-2d/8) / 2π
// times: 651.9, 65.19, 6.519 and 0.6519.
TEST(RopeTest, YarnRampsBetweenItsTwoNumbersOfTurns) {
  RopeConfig config = Rope("yarn", 10000, 4, 4096);
  config.truncate = false;

  const RopeFrequencies rope = FrequenciesFor(config, 8, 100);

  // Where pair number d turns n times: d = 8 ln(4096 / (2π n)) / (2 ln 10000).
  const double low = 4 * std::log(4096 / (2 * kPi * 32)) / std::log(10000.0);
  const double high = 4 * std::log(4096 / (2 * kPi * 1)) / std::log(10000.0);
  const double ramp = (2 - low) / (high - low);
  EXPECT_THAT(rope.inverse,
              Near({1.0, 0.1, 0.01 * (ramp / 4 + 1 - ramp), 0.001 / 4}));
}

TEST(RopeTest, YarnRoundsTheRampsEndsOutwards) {
  // 1.31 and 2.81 become 1 and 3: pair 2 is in the middle.
  const RopeFrequencies rope =
      FrequenciesFor(Rope("yarn", 10000, 4, 4096), 8, 100);

  EXPECT_THAT(rope.inverse, Near({1.0, 0.1, 0.01 * 0.625, 0.001 / 4}));
}

TEST(RopeTest, YarnMultipliesCosineAndSine) {
  RopeConfig config = Rope("yarn", 10000, 4, 4096);
  config.attention_factor = 1.25;

  EXPECT_EQ(FrequenciesFor(config, 8, 100).factor, 1.25);
}

// Wavelengths 2π · 10^d for theta 10^4 and dim 8; original 1000, factors 1 and
// 4: above 1000 scaled, below 250 kept, between mixed.
TEST(RopeTest, Llama3ScalesLongWavelengthsAndKeepsShortOnes) {
  const RopeFrequencies rope =
      FrequenciesFor(Rope("llama3", 10000, 8, 1000), 8, 100);

  const double kept = (1000 / (2 * kPi * 100) - 1) / (4 - 1);
  EXPECT_THAT(rope.inverse,
              Near({1.0, 0.1, 0.01 * ((1 - kept) / 8 + kept), 0.001 / 8}));
}

// Pair 0 turns 8 / 2π times over 8 positions, pair 1 a tenth of that.
TEST(RopeTest, Llama3WithoutARampScalesAllThatTurnLessOften) {
  RopeConfig config = Rope("llama3", 10000, 16, 8);
  config.low_frequency_factor = 0.5;
  config.high_frequency_factor = 0.5;

  const RopeFrequencies rope = FrequenciesFor(config, 8, 100);

  EXPECT_THAT(rope.inverse,
              Near({1.0, 0.1 / 16, 0.01 / 16, 0.001 / 16}));
}

TEST(RopeTest, Llama3WithoutARampKeepsWhatTurnsJustAsOften) {
  RopeConfig config = Rope("llama3", 10000, 16, 8);
  config.low_frequency_factor = 8 / (2 * kPi);
  config.high_frequency_factor = 8 / (2 * kPi);

  const RopeFrequencies rope = FrequenciesFor(config, 8, 100);

  EXPECT_THAT(rope.inverse,
              Near({1.0, 0.1 / 16, 0.01 / 16, 0.001 / 16}));
}

TEST(RopeTest, Llama3AtTheRampsLowEndScalesWholly) {
  RopeConfig config = Rope("llama3", 10000, 16, 8);
  config.low_frequency_factor = 8 / (2 * kPi);
  config.high_frequency_factor = 4;

  EXPECT_EQ(FrequenciesFor(config, 8, 100).inverse[0], 1.0 / 16);
}

TEST(RopeTest, LongropeSwitchesItsFactorsBeyondTheOriginalLength) {
  RopeConfig config = Rope("longrope", 10000, 2, 64);
  config.short_factors = {1.0, 2.0};
  config.long_factors = {4.0, 5.0};
  config.attention_factor = 1.1;
  config.long_attention_factor = 1.3;

  const RopeFrequencies at_it = FrequenciesFor(config, 4, 64);
  const RopeFrequencies beyond = FrequenciesFor(config, 4, 65);

  EXPECT_THAT(at_it.inverse, Near({1.0, 0.01 / 2}));
  EXPECT_EQ(at_it.factor, 1.1);
  EXPECT_THAT(beyond.inverse, Near({1.0 / 4, 0.01 / 5}));
  EXPECT_EQ(beyond.factor, 1.3);
}

std::vector<float> Column(const at::Tensor& table, std::int64_t pair) {
  const at::Tensor column = table.select(1, pair).contiguous();
  const auto* data = column.data_ptr<float>();
  return std::vector<float>(data, data + column.numel());
}

ModelConfig ModelWith(const RopeConfig& rope, std::int64_t head_dim) {
  ModelConfig config;
  config.head_dim = head_dim;
  config.rope = rope;
  return config;
}

TEST(PositionTablesTest, PositionsStartAgainInEverySequence) {
  const PositionTables tables = MakePositionTables(
      {3, 2}, 6, ModelWith(Rope("default", 10000, 1, 0), 4), at::kCPU);

  EXPECT_THAT(Column(tables.sine, 0),
              Pointwise(::testing::FloatEq(),
                        std::vector<float>{0.0F, std::sin(1.0F),
                                           std::sin(2.0F), 0.0F,
                                           std::sin(1.0F), 0.0F}));
  EXPECT_FALSE(tables.temperature.defined());
}

TEST(PositionTablesTest, EachSequenceHasTheFrequenciesOfItsOwnLength) {
  RopeConfig rope = Rope("longrope", 10000, 2, 2);
  rope.short_factors = {1.0};
  rope.long_factors = {4.0};
  rope.long_attention_factor = 2.0;

  const PositionTables tables =
      MakePositionTables({3, 2}, 5, ModelWith(rope, 2), at::kCPU);

  EXPECT_THAT(
      Column(tables.sine, 0),
      Pointwise(::testing::FloatEq(),
                std::vector<float>{0.0F, 2 * std::sin(0.25F),
                                   2 * std::sin(0.5F), 0.0F, std::sin(1.0F)}));
}

TEST(PositionTablesTest, TemperatureStepsWithThePositionInTheSequence) {
  ModelConfig config = ModelWith(RopeConfig(), 2);
  config.attention.temperature_scale = 0.5;
  config.attention.temperature_floor = 2;

  const PositionTables tables =
      MakePositionTables({4, 2}, 6, config, at::kCPU);

  const auto second = static_cast<float>(1 + 0.5 * std::log(2.0));
  const auto third = static_cast<float>(1 + 0.5 * std::log(3.0));
  EXPECT_THAT(Column(tables.temperature, 0),
              ElementsAre(1.0F, second, second, third, 1.0F, second));
}

// What PassResources wants for one tile of 64 rows on the processor.
struct OneTile {
  ThreadPool pool{1};
  RunContext context;
  BufferPool buffers{at::kCPU};
  PassResources pass{at::kCPU, TileShape(), pool, context, buffers};
};

PositionTables QuarterTurns(std::int64_t pairs) {
  PositionTables tables;
  tables.cosine = at::zeros({64, pairs});
  tables.sine = at::ones({64, pairs});
  return tables;
}

TEST(ApplyRopeTest, RotatesTheHalvesOfAHead) {
  const OneTile tile;
  const at::Tensor x = at::arange(1, 5, at::kFloat).view({1, 1, 4});
  const at::Tensor heads = x.expand({64, 1, 4}).contiguous();

  ASSERT_TRUE(ApplyRope(tile.pass, QuarterTurns(2), false, heads).ok());

  EXPECT_TRUE(heads[5][0].equal(at::tensor({-3.0F, -4.0F, 1.0F, 2.0F})));
}

TEST(ApplyRopeTest, RotatesNeighboursWhereTheyAreThePairs) {
  const OneTile tile;
  const at::Tensor x = at::arange(1, 5, at::kFloat).view({1, 1, 4});
  const at::Tensor heads = x.expand({64, 1, 4}).contiguous();

  ASSERT_TRUE(ApplyRope(tile.pass, QuarterTurns(2), true, heads).ok());

  EXPECT_TRUE(heads[5][0].equal(at::tensor({-2.0F, 1.0F, -4.0F, 3.0F})));
}

TEST(ApplyRopeTest, LeavesTheRestOfAHeadAsItIs) {
  const OneTile tile;
  const at::Tensor x = at::arange(1, 5, at::kFloat).view({1, 1, 4});
  const at::Tensor heads = x.expand({64, 1, 4}).contiguous();

  ASSERT_TRUE(
      ApplyRope(tile.pass, QuarterTurns(1), false, heads.narrow(2, 0, 2))
          .ok());

  EXPECT_TRUE(heads[5][0].equal(at::tensor({-2.0F, 1.0F, 3.0F, 4.0F})));
}

}  // namespace
}  // namespace moescope::model::internal
