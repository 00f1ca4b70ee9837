#include "moescope/analysis/neuron_weight_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

// Expected values are stored as fp32 (relative 6e-8); squares, all positive,
// are summed in fp32 over at most 4096 terms: √4096 · 6e-8.
constexpr Tolerance kNorms = {0, 4e-6, 0, 0};
// A standard deviation is a small difference of norms, which are below 3.2.
constexpr Tolerance kDeviation = {1.3e-5, 0, 0, 0};
// Relative errors of 4e-6 in the energies p move Σ p ln p, over at most 256 of
// them, by 4e-6 ln 256.
constexpr Tolerance kRank = {0, 2.3e-5, 0, 0};

const std::vector<std::string>& NormNames() {
  static const auto* const names =
      new std::vector<std::string>{"norms",    "norm_mean",      "norm_min",
                                   "norm_max", "norm_quantiles", "frobenius"};
  return *names;
}

spec::NeuronWeightStatisticsSpec Ask(const std::string& model) {
  spec::NeuronWeightStatisticsSpec spec;
  spec.model = model;
  return spec;
}

TEST(NeuronWeightStatisticsTest, EqualsTheReferenceWithADenseBaseline) {
  spec::NeuronWeightStatisticsSpec asked = Ask("tiny-mixtral");
  asked.baseline = "tiny-mistral";
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(Compare("tiny-mixtral", "neuron_weight_statistics/with_baseline",
                    NormNames(), log, kNorms, &compared),
            "");
  EXPECT_EQ(compared, 6 * 3 * 6);
  EXPECT_EQ(Compare("tiny-mixtral", "neuron_weight_statistics/with_baseline",
                    {"norm_std"}, log, kDeviation, &compared),
            "");
  EXPECT_EQ(Compare("tiny-mixtral", "neuron_weight_statistics/with_baseline",
                    {"effective_rank"}, log, kRank, &compared),
            "");
  EXPECT_EQ(compared, 6 * 3);
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

TEST(NeuronWeightStatisticsTest, EqualsTheReferenceForManySmallExperts) {
  const Log log = RunSpec(Normalised(Ask("tiny-deepseek")));

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(Compare("tiny-deepseek", "neuron_weight_statistics/routed",
                    NormNames(), log, kNorms, &compared),
            "");
  EXPECT_EQ(compared, 4 * 3 * 6);
  EXPECT_EQ(Compare("tiny-deepseek", "neuron_weight_statistics/routed",
                    {"norm_std"}, log, kDeviation, &compared),
            "");
  EXPECT_EQ(Compare("tiny-deepseek", "neuron_weight_statistics/routed",
                    {"effective_rank"}, log, kRank, &compared),
            "");
}

TEST(NeuronWeightStatisticsTest, LeavesOutTheRankWhenNotAskedForIt) {
  spec::NeuronWeightStatisticsSpec asked = Ask("tiny-mixtral");
  asked.effective_rank = false;
  asked.layers = {0};

  const auto arrays = Join(RunSpec(Normalised(asked)));

  EXPECT_EQ(arrays.count("layer.0.up_proj.frobenius"), 1U);
  EXPECT_EQ(arrays.count("layer.0.up_proj.effective_rank"), 0U);
}

TEST(NeuronWeightStatisticsTest, LeavesOutWiderSharedExperts) {
  spec::NeuronWeightStatisticsSpec asked = Ask("tiny-deepseek");
  asked.effective_rank = false;
  asked.include_shared = true;
  asked.layers = {1};

  const auto arrays = Join(RunSpec(Normalised(asked)));

  EXPECT_THAT(arrays.at("layer.1.up_proj.norms").shape,
              testing::ElementsAre(32, 64));
}

TEST(NeuronWeightStatisticsTest, GivesTheSameBytesForAnyNumberOfThreads) {
  spec::NeuronWeightStatisticsSpec asked = Ask("tiny-mixtral");
  asked.layers = {0, 3};
  const spec::AnalysisSpec spec = Normalised(asked);

  EXPECT_EQ(Images(RunSpec(spec, {1, {}, -1})),
            Images(RunSpec(spec, {2, {}, -1})));
}

TEST(NeuronWeightStatisticsTest, ResumesAfterAnyChunk) {
  spec::NeuronWeightStatisticsSpec asked = Ask("tiny-mixtral");
  asked.layers = {4};
  const spec::AnalysisSpec spec = Normalised(asked);
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.chunks.size(), 3U);

  EXPECT_EQ(Images(RunSpec(spec, {1, {1, ""}, -1})), Images(whole, 1));
  EXPECT_EQ(Images(RunSpec(spec, {1, {2, ""}, -1})), Images(whole, 2));
  EXPECT_TRUE(RunSpec(spec, {1, {3, ""}, -1}).chunks.empty());
}

TEST(NeuronWeightStatisticsTest, StopsBetweenChunksWhenCancelled) {
  const Log log = RunSpec(Normalised(Ask("tiny-mixtral")), {1, {}, 2});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 2U);
}

}  // namespace
}  // namespace moescope::analysis
