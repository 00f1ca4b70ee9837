#include "moescope/analysis/matrix_pca.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

using testing::ElementsAre;

// Standardised values have a relative error of some 6e-8 and their products are
// summed in fp32 over at most 4096 terms, so the Gram matrix errs by 4e-6 of its
// trace, shares likewise, and scores (up to 160 here) by that over the gap of
// the shares, which is above 0.005.
constexpr Tolerance kShares = {4e-6, 0, 0, 0};
constexpr Tolerance kScores = {160 * 4e-6 / 0.005, 0, 0, 0};

spec::MatrixPcaSpec Ask(const std::string& model) {
  spec::MatrixPcaSpec spec;
  spec.model = model;
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
  EXPECT_EQ(Compare(model, group, {"dbscan_labels"}, log, {}, &compared), "");
  EXPECT_EQ(compared, arrays);
  EXPECT_EQ(Compare(model, group, {"sign_gap"}, log, {0.01, 0, 0, 0},
                    &compared),
            "");
}

TEST(MatrixPcaTest, EqualsTheReferenceForRoutedExperts) {
  const spec::AnalysisSpec spec = Normalised(Ask("tiny-mixtral"));

  const Log log = RunSpec(spec);

  ExpectReference("tiny-mixtral", "matrix_pca/routed", log, 6 * 3);
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

TEST(MatrixPcaTest, EqualsTheReferenceWithADenseBaseline) {
  spec::MatrixPcaSpec asked = Ask("tiny-mixtral");
  asked.baseline = "tiny-mistral";

  const Log log = RunSpec(Normalised(asked));

  ExpectReference("tiny-mixtral", "matrix_pca/with_baseline", log, 6 * 3);
  EXPECT_THAT(spec::ToDoubles(Join(log).at("layer.0.up_proj.participants")),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, -2));
}

TEST(MatrixPcaTest, EqualsTheReferenceForManyExperts) {
  ExpectReference("tiny-deepseek", "matrix_pca/routed",
                  RunSpec(Normalised(Ask("tiny-deepseek"))), 4 * 3);
}

TEST(MatrixPcaTest, EqualsTheReferenceOnRandomWeights) {
  spec::MatrixPcaSpec mixtral = Ask("mixtral");
  mixtral.eps = 20;
  mixtral.min_samples = 3;
  spec::MatrixPcaSpec deepseek = Ask("deepseek");
  deepseek.eps = 15;
  deepseek.min_samples = 3;

  ExpectReference("mixtral", "matrix_pca/routed", RunSpec(Normalised(mixtral)),
                  2 * 3);
  ExpectReference("deepseek", "matrix_pca/routed",
                  RunSpec(Normalised(deepseek)), 2 * 3);
}

TEST(MatrixPcaTest, LeavesOutLabelsWithoutADistance) {
  spec::MatrixPcaSpec asked = Ask("tiny-mixtral");
  asked.layers = {0};
  asked.eps = 0;

  EXPECT_EQ(Join(RunSpec(Normalised(asked)))
                .count("layer.0.gate_proj.dbscan_labels"),
            0U);
}

TEST(MatrixPcaTest, ResumesAfterAnyChunk) {
  spec::MatrixPcaSpec asked = Ask("tiny-mixtral");
  asked.layers = {0, 5};
  const spec::AnalysisSpec spec = Normalised(asked);
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.chunks.size(), 6U);

  EXPECT_EQ(Images(RunSpec(spec, {2, {2, ""}, -1})), Images(whole, 2));
  EXPECT_TRUE(RunSpec(spec, {1, {6, ""}, -1}).chunks.empty());
  EXPECT_THAT(RunSpec(spec, {1, {4, ""}, -1}).reported,
              testing::ElementsAre(5, 6));
}

TEST(MatrixPcaTest, StopsBetweenChunksWhenCancelled) {
  const Log log = RunSpec(Normalised(Ask("tiny-mixtral")), {1, {}, 3});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 3U);
}

}  // namespace
}  // namespace moescope::analysis
