#include "moescope/analysis/neuron_pca.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

using testing::ElementsAre;

// Correlations err by √2048 · 6e-8 = 3e-6, shares by less; scores (up to 40
// here) by that over the gap of the eigenvalues relative to their size, which is
// above 0.02.
constexpr Tolerance kShares = {3e-6, 0, 0, 0};
constexpr Tolerance kScores = {40 * 3e-6 / 0.02, 0, 0, 0};

spec::NeuronPcaSpec Ask(const std::string& model,
                        std::vector<std::int64_t> layers) {
  spec::NeuronPcaSpec spec;
  spec.model = model;
  spec.layers = std::move(layers);
  return spec;
}

void ExpectReference(const std::string& model, const std::string& group,
                     const Log& log, int arrays) {
  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(Compare(model, group, {"scores"}, log, kScores, &compared), "");
  EXPECT_EQ(compared, arrays);
  EXPECT_EQ(Compare(model, group, {"explained_ratio", "spectrum"}, log, kShares,
                    &compared),
            "");
  EXPECT_EQ(compared, 2 * arrays);
  EXPECT_EQ(Compare(model, group, {"sign_gap"}, log, {0.001, 0, 0, 0},
                    &compared),
            "");
}

TEST(NeuronPcaTest, EqualsTheReferenceWithADenseBaseline) {
  spec::NeuronPcaSpec asked = Ask("tiny-mixtral", {0, 5});
  asked.baseline = "tiny-mistral";
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ExpectReference("tiny-mixtral", "neuron_pca/with_baseline", log, 6);
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

TEST(NeuronPcaTest, EqualsTheReferenceForRoutedExperts) {
  ExpectReference("tiny-mixtral", "neuron_pca/routed",
                  RunSpec(Normalised(Ask("tiny-mixtral", {0, 5}))), 6);
}

TEST(NeuronPcaTest, PoolsWiderSharedExperts) {
  spec::NeuronPcaSpec asked = Ask("tiny-deepseek", {1, 4});
  asked.include_shared = true;

  const Log log = RunSpec(Normalised(asked));

  ExpectReference("tiny-deepseek", "neuron_pca/with_shared", log, 6);
  EXPECT_EQ(
      spec::ToDoubles(Join(log).at("layer.1.up_proj.participant_neurons"))
          .back(),
      128);
}

TEST(NeuronPcaTest, EqualsTheReferenceOnRandomWeights) {
  spec::NeuronPcaSpec mixtral = Ask("mixtral", {0, 1});
  mixtral.dims = 3;
  spec::NeuronPcaSpec deepseek = Ask("deepseek", {1, 2});

  ExpectReference("mixtral", "neuron_pca/routed", RunSpec(Normalised(mixtral)),
                  6);
  ExpectReference("deepseek", "neuron_pca/routed",
                  RunSpec(Normalised(deepseek)), 6);
}

TEST(NeuronPcaTest, SamplesAndBinsOnRequest) {
  spec::NeuronPcaSpec asked = Ask("tiny-mixtral", {0});
  asked.projections = {"gate_proj"};
  asked.outputs = {"bins", "scores", "sample"};
  asked.sample_size = 100;
  asked.bins = 8;
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  EXPECT_EQ(SchemaProblem(spec, log), "");
  const auto arrays = Join(log);
  const std::vector<double> ids =
      spec::ToDoubles(arrays.at("layer.0.gate_proj.sampled_ids"));
  ASSERT_EQ(ids.size(), 100U);
  const std::vector<double> scores =
      spec::ToDoubles(arrays.at("layer.0.gate_proj.scores"));
  const std::vector<double> sampled =
      spec::ToDoubles(arrays.at("layer.0.gate_proj.sampled_scores"));
  EXPECT_EQ(sampled[2 * 99 + 1],
            scores[2 * static_cast<std::size_t>(ids[99]) + 1]);
  const std::vector<double> counts =
      spec::ToDoubles(arrays.at("layer.0.gate_proj.bin_counts"));
  EXPECT_THAT(arrays.at("layer.0.gate_proj.bin_counts").shape,
              ElementsAre(8, 8, 8));
  EXPECT_EQ(std::accumulate(counts.begin(), counts.begin() + 64, 0.0), 256);
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0.0), 2048);
}

TEST(NeuronPcaTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const spec::AnalysisSpec spec = Normalised(Ask("tiny-mixtral", {5}));

  EXPECT_EQ(Images(RunSpec(spec, {1, {}, -1})),
            Images(RunSpec(spec, {2, {}, -1})));
}

TEST(NeuronPcaTest, ResumesAfterAnyChunk) {
  const spec::AnalysisSpec spec = Normalised(Ask("tiny-mixtral", {0, 5}));
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.chunks.size(), 6U);

  EXPECT_EQ(Images(RunSpec(spec, {1, {4, ""}, -1})), Images(whole, 4));
}

TEST(NeuronPcaTest, StopsBetweenChunksWhenCancelled) {
  const Log log = RunSpec(Normalised(Ask("tiny-mixtral", {})), {1, {}, 2});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 2U);
}

}  // namespace
}  // namespace moescope::analysis
