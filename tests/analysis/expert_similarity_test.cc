#include "moescope/analysis/expert_similarity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

using testing::ElementsAre;

// The expected values are stored as fp32 (6e-8); products are summed in fp32
// over at most 4096 terms, whose rounding errors add up to √4096 · 6e-8 of the
// norms. Cosines are relative to norms, so the bound is absolute.
constexpr Tolerance kCosine = {4e-6, 0, 0, 0};

spec::AnalysisSpec Everything(const std::string& model) {
  spec::ExpertSimilaritySpec spec;
  spec.model = model;
  return Normalised(spec);
}

TEST(ExpertSimilarityTest, EqualsTheReferenceForRoutedExperts) {
  const spec::AnalysisSpec spec = Everything("tiny-mixtral");

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(
      Compare("tiny-mixtral", "expert_similarity/routed",
              {"matrix", "neuron_average", "router"}, log, kCosine, &compared),
      "");
  EXPECT_EQ(compared, 6 * 7);
  EXPECT_EQ(log.chunks.size(), 6U * 4U);
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

TEST(ExpertSimilarityTest, EqualsTheReferenceWithADenseBaseline) {
  spec::ExpertSimilaritySpec asked;
  asked.model = "tiny-mixtral";
  asked.baseline = "tiny-mistral";
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(Compare("tiny-mixtral", "expert_similarity/with_baseline",
                    {"matrix", "neuron_average"}, log, kCosine, &compared),
            "");
  EXPECT_EQ(compared, 6 * 6);
  EXPECT_THAT(
      spec::ToDoubles(Join(log).at("layer.0.up_proj.matrix_participants")),
      ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, -2));
}

TEST(ExpertSimilarityTest, LeavesWiderSharedExpertsOutOfTheMatrixLevelOnly) {
  spec::ExpertSimilaritySpec asked;
  asked.model = "tiny-deepseek";
  asked.include_shared = true;
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(Compare("tiny-deepseek", "expert_similarity/with_shared",
                    {"matrix", "neuron_average"}, log, kCosine, &compared),
            "");
  EXPECT_EQ(compared, 4 * 6);
  const auto arrays = Join(log);
  EXPECT_THAT(arrays.at("layer.1.gate_proj.matrix").shape, ElementsAre(32, 32));
  EXPECT_EQ(spec::ToDoubles(
                arrays.at("layer.1.gate_proj.neuron_average_participants"))
                .back(),
            -1);
  EXPECT_THAT(arrays.at("layer.1.gate_proj.nonfinite").shape, ElementsAre(33));
}

TEST(ExpertSimilarityTest, AnswersOnlyTheLevelsAskedFor) {
  spec::ExpertSimilaritySpec asked;
  asked.model = "tiny-mixtral";
  asked.layers = {2};
  asked.levels = {"router"};
  const Log log = RunSpec(Normalised(asked));

  ASSERT_EQ(log.chunks.size(), 1U);
  ASSERT_EQ(log.chunks[0].arrays.size(), 1U);
  EXPECT_EQ(log.chunks[0].arrays[0].name, "layer.2.router");
}

TEST(ExpertSimilarityTest, ComparesSharedExpertsAloneWithoutAMatrix) {
  spec::ExpertSimilaritySpec asked;
  asked.model = "tiny-deepseek";
  asked.layers = {1};
  asked.levels = {"matrix", "neuron_average"};
  asked.projections = {"up_proj"};
  asked.participants = {"S"};
  spec::AnalysisSpec spec = Normalised(asked);
  std::get<spec::ExpertSimilaritySpec>(spec).participants = {"S"};

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  const auto arrays = Join(log);
  EXPECT_THAT(arrays.at("layer.1.up_proj.matrix").shape, ElementsAre(0, 0));
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.up_proj.neuron_average")),
              ElementsAre(1));
}

TEST(ExpertSimilarityTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const spec::AnalysisSpec spec = Everything("tiny-deepseek");

  EXPECT_EQ(Images(RunSpec(spec, {1, {}, -1})),
            Images(RunSpec(spec, {2, {}, -1})));
}

TEST(ExpertSimilarityTest, ResumesAfterAnyChunk) {
  spec::ExpertSimilaritySpec asked;
  asked.model = "tiny-mixtral";
  asked.layers = {0, 5};
  const spec::AnalysisSpec spec = Normalised(asked);
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.chunks.size(), 8U);

  EXPECT_EQ(Images(RunSpec(spec, {1, {1, ""}, -1})), Images(whole, 1));
  EXPECT_EQ(Images(RunSpec(spec, {1, {4, ""}, -1})), Images(whole, 4));
  EXPECT_EQ(Images(RunSpec(spec, {1, {7, ""}, -1})), Images(whole, 7));
  EXPECT_TRUE(RunSpec(spec, {1, {8, ""}, -1}).chunks.empty());
  EXPECT_THAT(RunSpec(spec, {1, {5, ""}, -1}).reported, ElementsAre(6, 7, 8));
}

TEST(ExpertSimilarityTest, StopsBetweenChunksWhenCancelled) {
  const Log log = RunSpec(Everything("tiny-mixtral"), {1, {}, 3});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 3U);
}

}  // namespace
}  // namespace moescope::analysis
