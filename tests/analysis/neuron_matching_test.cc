#include "moescope/analysis/neuron_matching.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "moescope/base/error.h"
#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

using ::testing::ElementsAre;

// Expected values are fp32 (6e-8 of values up to 1); cosines carry 1e-7 of the
// fp32 products that choose the permutation.
constexpr Tolerance kCosines = {1e-6, 0, 0, 0};
// Sums of up to 256 of them, of three matrices.
constexpr Tolerance kObjectives = {1e-5, 1e-6, 0, 0};
// Ratios of cosines, some of which are near 0.
constexpr Tolerance kRatios = {0, 1e-3, 0, 0};

spec::NeuronMatchingSpec Ask(const std::string& model,
                             std::vector<std::int64_t> layers,
                             std::vector<std::int64_t> pairs) {
  spec::NeuronMatchingSpec spec;
  spec.model = model;
  spec.layers = std::move(layers);
  spec.pairs = std::move(pairs);
  spec.null_draws = 0;
  return spec;
}

// The first of the comparisons with `case_name` that fails; `compared` receives
// how many arrays there were.
std::string CompareAll(const std::string& model, const std::string& case_name,
                       const Log& log, int* compared) {
  const std::string file = "matching/" + model;
  const std::string group = "neuron_matching/" + case_name;
  std::string problem;
  *compared = 0;
  const auto compare = [&](const std::vector<std::string>& endings,
                           const Tolerance& tolerance) {
    int count = 0;
    problem += Compare(file, group, endings, log, tolerance, &count);
    *compared += count;
  };
  // The optimum of these is unique, so that all that depends on the permutation
  // can be compared.
  compare({"pairs", "permutation", "fixed_points"}, {0, 0, 0, 0});
  compare({"objective"}, kObjectives);
  compare({"mean_matched_cosine", "cosine_before", "cosine_after", ".growth",
           "kendall_tau"},
          kCosines);
  compare({"growth_ratio"}, kRatios);
  return problem;
}

TEST(NeuronMatchingTest, EqualsTheReferenceWithADenseBaseline) {
  spec::NeuronMatchingSpec asked =
      Ask("tiny-mixtral", {0, 2, 5}, {0, 1, 2, 5, 3, 6, 0, 8, 7, 8});
  asked.baseline = "tiny-mistral";
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(CompareAll("tiny-mixtral", "with_baseline", log, &compared), "");
  // Per layer the pairs, 9 arrays of 3 projections, and 5 + 3 · 4 of the joint one.
  EXPECT_EQ(compared, 3 * (1 + 3 * 9 + 17));
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

TEST(NeuronMatchingTest, EqualsTheReferenceForManySmallExperts) {
  const Log log = RunSpec(
      Normalised(Ask("tiny-deepseek", {1, 4}, {0, 1, 2, 5, 31, 17})));

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(CompareAll("tiny-deepseek", "routed", log, &compared), "");
  EXPECT_EQ(compared, 2 * (1 + 3 * 9 + 17));
}

TEST(NeuronMatchingTest, ProvesEveryMatching) {
  const auto arrays =
      Join(RunSpec(Normalised(Ask("tiny-mixtral", {1}, {0, 1, 5, 4}))));

  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.up_proj.gap")),
              ElementsAre(0, 0));
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.joint.gap")),
              ElementsAre(0, 0));
  EXPECT_EQ(arrays.at("layer.1.joint.dual_quantised").bytes,
            arrays.at("layer.1.joint.objective_quantised").bytes);
}

TEST(NeuronMatchingTest, MatchesAnExpertWithItselfNeuronByNeuron) {
  const auto arrays = Join(RunSpec(Normalised(Ask("tiny-mixtral", {1}, {3, 3}))));

  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.joint.fixed_points")),
              ElementsAre(256));
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.joint.kendall_tau")),
              ElementsAre(1));
  EXPECT_NEAR(
      spec::ToDoubles(arrays.at("layer.1.down_proj.mean_matched_cosine"))[0],
      1, 1e-12);
}

TEST(NeuronMatchingTest, DrawsANullLikeTheReferences) {
  spec::NeuronMatchingSpec asked = Ask("tiny-deepseek", {1}, {0, 1});
  asked.projections = {"up_proj"};
  asked.null_draws = 10;

  const auto arrays = Join(RunSpec(Normalised(asked)));

  // Of both sides' 30 and 10 draws: 4 sd √(2 / draws).
  EXPECT_NEAR(spec::ToDoubles(arrays.at("layer.1.null.single_mean"))[0],
              0.19068469872903562,
              4 * 0.004730100764614337 * std::sqrt(2.0 / 30));
  EXPECT_NEAR(spec::ToDoubles(arrays.at("layer.1.null.joint_mean"))[0],
              0.1110906564335818,
              4 * 0.002012970744590728 * std::sqrt(2.0 / 10));
  EXPECT_NEAR(spec::ToDoubles(arrays.at("layer.1.kendall_tau_null_se"))[0],
              0.08561686115234689, 1e-15);
  EXPECT_NEAR(spec::ToDoubles(arrays.at("layer.1.null_rule_of_thumb"))[0],
              0.2166792354108719, 1e-15);
  const double mean =
      spec::ToDoubles(arrays.at("layer.1.up_proj.mean_matched_cosine"))[0];
  const double null_mean =
      spec::ToDoubles(arrays.at("layer.1.null.single_mean"))[0];
  EXPECT_EQ(spec::ToDoubles(arrays.at("layer.1.up_proj.z"))[0],
            (mean - null_mean) /
                spec::ToDoubles(arrays.at("layer.1.null.single_sd"))[0]);
}

TEST(NeuronMatchingTest, TakesAllPairsWhenNoneIsNamed) {
  const spec::AnalysisSpec spec = Normalised(Ask("tiny-mixtral", {0}, {}));

  EXPECT_EQ(std::get<spec::NeuronMatchingSpec>(spec).pairs.size(), 2U * 28);
}

TEST(NeuronMatchingTest, RefusesWiderSharedExperts) {
  spec::NeuronMatchingSpec asked = Ask("tiny-deepseek", {1}, {0, 32});
  asked.include_shared = true;

  const absl::Status status = RunSpec(Normalised(asked)).status;

  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(status).fields.at(0).field, "spec.participants");
}

TEST(NeuronMatchingTest, GivesTheSameBytesForAnyNumberOfThreads) {
  spec::NeuronMatchingSpec asked =
      Ask("tiny-deepseek", {1, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  asked.null_draws = 3;
  const spec::AnalysisSpec spec = Normalised(asked);

  EXPECT_EQ(Images(RunSpec(spec, {1, {}, -1})),
            Images(RunSpec(spec, {3, {}, -1})));
}

TEST(NeuronMatchingTest, ResumesAfterAnyChunk) {
  spec::NeuronMatchingSpec asked = Ask("tiny-deepseek", {1, 2}, {0, 1, 2, 3});
  asked.null_draws = 2;
  const spec::AnalysisSpec spec = Normalised(asked);
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.chunks.size(), 7U);

  EXPECT_EQ(Images(RunSpec(spec, {2, {1, ""}, -1})), Images(whole, 1));
  EXPECT_EQ(Images(RunSpec(spec, {2, {4, ""}, -1})), Images(whole, 4));
  EXPECT_TRUE(RunSpec(spec, {1, {7, ""}, -1}).chunks.empty());
}

TEST(NeuronMatchingTest, StopsBetweenChunksWhenCancelled) {
  const Log log = RunSpec(
      Normalised(Ask("tiny-deepseek", {1, 2}, {0, 1, 2, 3})), {1, {}, 3});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 3U);
}

}  // namespace
}  // namespace moescope::analysis
