#include "moescope/analysis/static_suite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

using testing::IsEmpty;

spec::StaticSuiteSpec Ask() {
  spec::StaticSuiteSpec spec;
  spec.model = "tiny-mixtral";
  spec.baseline = "tiny-mistral";
  spec.layers = {1, 4};
  return spec;
}

// Names of arrays of `part` that the suite has not, or with other bytes.
std::vector<std::string> Differences(const Log& suite, const std::string& prefix,
                                     const Log& part) {
  const std::map<std::string, spec::Array> all = Join(suite);
  std::vector<std::string> differences;
  for (const auto& [name, array] : Join(part)) {
    const auto found = all.find(prefix + name);
    if (found == all.end() || found->second.bytes != array.bytes ||
        found->second.shape != array.shape) {
      differences.push_back(name);
    }
  }
  return differences;
}

TEST(StaticSuiteTest, GivesTheBytesOfEachAnalysisByItself) {
  const spec::AnalysisSpec spec = Normalised(Ask());
  spec::ExpertSimilaritySpec similarity;
  spec::RouterRegressionSpec regression;
  spec::NeuronWeightStatisticsSpec norms;
  spec::MatrixPcaSpec components;
  similarity.model = regression.model = norms.model = components.model =
      "tiny-mixtral";
  similarity.baseline = norms.baseline = components.baseline = "tiny-mistral";
  similarity.layers = regression.layers = norms.layers = components.layers = {
      1, 4};
  norms.effective_rank = false;

  const Log suite = RunSpec(spec);

  ASSERT_TRUE(suite.status.ok()) << suite.status;
  EXPECT_EQ(SchemaProblem(spec, suite), "");
  EXPECT_THAT(Differences(suite, "expert_similarity/",
                          RunSpec(Normalised(similarity))),
              IsEmpty());
  EXPECT_THAT(Differences(suite, "router_regression/",
                          RunSpec(Normalised(regression))),
              IsEmpty());
  EXPECT_THAT(Differences(suite, "neuron_weight_statistics/",
                          RunSpec(Normalised(norms))),
              IsEmpty());
  EXPECT_THAT(
      Differences(suite, "matrix_pca/", RunSpec(Normalised(components))),
      IsEmpty());
}

TEST(StaticSuiteTest, TakesWiderSharedExperts) {
  spec::StaticSuiteSpec asked;
  asked.model = "tiny-deepseek";
  asked.include_shared = true;
  asked.layers = {2};
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_EQ(SchemaProblem(spec, log), "");
  const auto arrays = Join(log);
  EXPECT_THAT(
      arrays.at("expert_similarity/layer.2.up_proj.neuron_average").shape,
      testing::ElementsAre(33, 33));
  EXPECT_THAT(arrays.at("matrix_pca/layer.2.up_proj.scores").shape,
              testing::ElementsAre(32, 2));
}

TEST(StaticSuiteTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const spec::AnalysisSpec spec = Normalised(Ask());

  EXPECT_EQ(Images(RunSpec(spec, {1, {}, -1})),
            Images(RunSpec(spec, {2, {}, -1})));
}

TEST(StaticSuiteTest, ResumesAfterAnyChunk) {
  const spec::AnalysisSpec spec = Normalised(Ask());
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.chunks.size(), 9U);

  EXPECT_EQ(Images(RunSpec(spec, {1, {2, ""}, -1})), Images(whole, 2));
  EXPECT_EQ(Images(RunSpec(spec, {1, {4, whole.states[0]}, -1})),
            Images(whole, 4));
  EXPECT_EQ(Images(RunSpec(spec, {1, {8, whole.states[1]}, -1})),
            Images(whole, 8));
  EXPECT_EQ(Images(RunSpec(spec, {1, {8, ""}, -1})), Images(whole, 8));
  EXPECT_THAT(RunSpec(spec, {1, {4, whole.states[0]}, -1}).reported,
              testing::ElementsAre(2));
}

TEST(StaticSuiteTest, StopsBetweenChunksWhenCancelled) {
  const Log log = RunSpec(Normalised(Ask()), {1, {}, 2});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 2U);
}

}  // namespace
}  // namespace moescope::analysis
