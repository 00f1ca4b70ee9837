#include "moescope/analysis/activation_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

using testing::ElementsAre;

// As in tests/model/forward_testing.cc; activations here are up to 13 and seen
// to move by 7e-6. A second moment m then moves by 2 √m · 7e-6, which is below
// the bound for every m.
constexpr Tolerance kActivations = {2e-5, 1e-4, 0, 0};
// At most 5 values of a layer are near a threshold; each that changes side
// moves one entry. All other entries are quotients of equal counts.
constexpr Tolerance kShares = {1e-6, 0, 0, 5};
// The same 5 of at least 128 tokens · 4 experts · 64 neurons.
constexpr Tolerance kTotals = {5.0 / (128 * 4 * 64), 0, 0, 0};
// A value near an edge of its bin may change side.
constexpr Tolerance kHistogram = {0, 0, 2, 0};
// Two tokens whose values are equal but for rounding may change places.
constexpr Tolerance kTopTokens = {0, 0, 0, 8};
constexpr Tolerance kEqual = {1e-7, 0, 0, 0};

spec::ActivationStatisticsSpec Ask(const std::string& model,
                                   const std::string& text) {
  spec::ActivationStatisticsSpec spec;
  spec.model = model;
  spec.input = ExpectedInput(model, text);
  spec.thresholds = {0.001, 0.01, 0.1};
  spec.histogram = {-0.5, 3.5, 65};
  spec.top_tokens = 2;
  return spec;
}

// Blocks of 40 + 20, 60, 100 and 36 tokens.
spec::AnalysisSpec AskInBlocks() {
  spec::ActivationStatisticsSpec spec = Ask("tiny-mixtral", "prose");
  spec.input.lengths = {40, 20, 60, 100, 36};
  spec.layers = {0, 3};
  spec.neuron_layers = {3};
  spec.block_tokens = 64;
  return Normalised(spec);
}

void ExpectReference(const std::string& model, const std::string& group,
                     const Log& log) {
  int compared = 0;
  EXPECT_EQ(
      Compare(model, group,
              {".mean", ".mean_abs", ".max", ".second_moment", ".top_values"},
              log, kActivations, &compared),
      "");
  EXPECT_GE(compared, 2 * 9);
  EXPECT_EQ(Compare(model, group,
                    {"expert_fraction", "expert_fraction_routed", ".frequency"},
                    log, kShares, &compared),
            "");
  EXPECT_EQ(Compare(model, group, {".fraction", ".fraction_routed"}, log,
                    kTotals, &compared),
            "");
  EXPECT_EQ(Compare(model, group, {".top_tokens"}, log, kTopTokens, &compared),
            "");
  EXPECT_EQ(Compare(model, group, {".histogram"}, log, kHistogram, &compared),
            "");
  EXPECT_EQ(
      Compare(model, group, {"thresholds", "routed_tokens", "histogram_edges"},
              log, kEqual, &compared),
      "");
  EXPECT_GE(compared, 4 * 3);
}

TEST(ActivationStatisticsTest, EqualsTheReferenceOfAMixtral) {
  const spec::AnalysisSpec spec = Normalised(Ask("tiny-mixtral", "prose"));

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  ExpectReference("tiny-mixtral", "activation_statistics/prose", log);
  EXPECT_EQ(SchemaProblem(spec, log), "");
  EXPECT_THAT(spec::ToDoubles(Join(log).at("layer.3.tokens")),
              ElementsAre(256));
}

TEST(ActivationStatisticsTest, EqualsTheReferenceOfADeepseek) {
  const Log log = RunSpec(Normalised(Ask("tiny-deepseek", "prose")));

  ASSERT_TRUE(log.status.ok()) << log.status;
  ExpectReference("tiny-deepseek", "activation_statistics/prose", log);
}

TEST(ActivationStatisticsTest, EmitsNeuronsOfTheLayersAskedForOnly) {
  const Log log = RunSpec(AskInBlocks());

  ASSERT_EQ(log.chunks.size(), 3U);
  const auto arrays = Join(log);
  EXPECT_EQ(arrays.count("layer.0.neuron.mean"), 0U);
  EXPECT_EQ(arrays.count("layer.3.neuron.mean"), 1U);
  EXPECT_THAT(arrays.at("layer.3.neuron.top_tokens").shape,
              ElementsAre(8, 256, 2));
  EXPECT_EQ(log.chunks[2].arrays[0].name, "total.fraction");
}

TEST(ActivationStatisticsTest, SavesStateAfterEveryBlockBeforeAnyChunk) {
  const Log log = RunSpec(AskInBlocks());

  EXPECT_THAT(log.chunks_at_state, ElementsAre(0, 0, 0, 0));
}

TEST(ActivationStatisticsTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const spec::AnalysisSpec spec = AskInBlocks();
  const Log one = RunSpec(spec, {1, {}, -1});
  const Log two = RunSpec(spec, {2, {}, -1});

  EXPECT_EQ(Images(one), Images(two));
  EXPECT_EQ(one.states, two.states);
}

TEST(ActivationStatisticsTest, ResumesFromAnyState) {
  const spec::AnalysisSpec spec = AskInBlocks();
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.states.size(), 4U);

  const Log from_first = RunSpec(spec, {1, {0, whole.states[0]}, -1});
  EXPECT_EQ(Images(from_first), Images(whole));
  EXPECT_EQ(from_first.states.size(), 3U);
  EXPECT_EQ(from_first.states.back(), whole.states.back());
  EXPECT_EQ(Images(RunSpec(spec, {1, {0, whole.states[2]}, -1})),
            Images(whole));
  EXPECT_EQ(Images(RunSpec(spec, {1, {2, whole.states[3]}, -1})),
            Images(whole, 2));
  EXPECT_EQ(Images(RunSpec(spec, {1, {1, ""}, -1})), Images(whole, 1));
  EXPECT_EQ(RunSpec(spec, {1, {0, whole.states[2]}, -1}).reported.front(), 220);
}

TEST(ActivationStatisticsTest, RefusesADamagedState) {
  const spec::AnalysisSpec spec = AskInBlocks();
  std::string state = RunSpec(spec, {1, {}, 1}).states.at(0);
  state.resize(state.size() - 1);

  const Log log = RunSpec(spec, {1, {0, state}, -1});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(log.status.message()), testing::HasSubstr("state"));
  EXPECT_TRUE(log.chunks.empty());
}

TEST(ActivationStatisticsTest, RefusesTheStateOfAnotherText) {
  const spec::AnalysisSpec spec = AskInBlocks();
  const std::string state = RunSpec(spec, {1, {}, 1}).states.at(0);
  spec::AnalysisSpec other = spec;
  std::get<spec::ActivationStatisticsSpec>(other).input.ids[0] ^= 1;

  const Log log = RunSpec(other, {1, {0, state}, -1});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(log.status.message()),
              testing::HasSubstr("another question"));
}

TEST(ActivationStatisticsTest, StopsBetweenBlocksWhenCancelled) {
  const Log log = RunSpec(AskInBlocks(), {1, {}, 2});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.states.size(), 2U);
  EXPECT_TRUE(log.chunks.empty());
}

}  // namespace
}  // namespace moescope::analysis
