#include "moescope/analysis/neuron_matching.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "moescope/analysis/catalogue.h"
#include "moescope/numerics/device_similarities.h"
#include "server/analysis/matched_pair_internal.h"
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

// What a log has in common with the expected values.
struct Comparison {
  std::string problem;  // "" if there is none.
  int parts = 0;        // Projections and joint, of every layer.
  int same = 0;         // Those with the expected permutations.
};

class Comparer {
 public:
  Comparer(std::string file, std::string case_name, const Log& log)
      : file_(std::move(file)),
        group_("neuron_matching/" + std::move(case_name)),
        log_(log) {}

  void CompareLayer(std::int64_t layer) {
    const std::string prefix = "layer." + std::to_string(layer) + ".";
    Require({prefix + "pairs"}, {0, 0, 0, 0});
    std::vector<std::string> owners;
    for (const std::string& projection : spec::ProjectionNames()) {
      ComparePart(prefix + projection + ".", {prefix + projection + "."});
      owners.push_back(prefix + "joint." + projection + ".");
    }
    ComparePart(prefix + "joint.", owners);
  }

  const Comparison& result() const { return result_; }

 private:
  // `owners` have the cosines of flattened matrices of the part.
  void ComparePart(const std::string& part,
                   const std::vector<std::string>& owners) {
    ++result_.parts;
    Require({part + "objective"}, kObjectives);
    Require({part + "mean_matched_cosine"}, kCosines);
    for (const std::string& owner : owners) {
      Require({owner + "cosine_before"}, kCosines);
    }
    int compared = 0;
    // Another permutation may be as good: the rest depends on which it is.
    if (!Compare(file_, group_, {part + "permutation"}, log_, {0, 0, 0, 0},
                 &compared)
             .empty() ||
        compared != 1) {
      return;
    }
    ++result_.same;
    Require({part + "fixed_points"}, {0, 0, 0, 0});
    Require({part + "kendall_tau"}, kCosines);
    for (const std::string& owner : owners) {
      Require({owner + "cosine_after", owner + "growth"}, kCosines);
      Require({owner + "growth_ratio"}, kRatios);
    }
  }

  void Require(const std::vector<std::string>& names,
               const Tolerance& tolerance) {
    int compared = 0;
    const std::string problem =
        Compare(file_, group_, names, log_, tolerance, &compared);
    if (!problem.empty()) {
      result_.problem += problem + "\n";
    } else if (compared != static_cast<int>(names.size())) {
      result_.problem += "nothing expected of " + names[0] + "\n";
    }
  }

  const std::string file_;
  const std::string group_;
  const Log& log_;
  Comparison result_;
};

Comparison CompareAll(const std::string& file, const std::string& case_name,
                      const std::vector<std::int64_t>& layers, const Log& log) {
  Comparer comparer(file, case_name, log);
  for (const std::int64_t layer : layers) {
    comparer.CompareLayer(layer);
  }
  return comparer.result();
}

// Ties, or what the fp32 products take for ties, are rare.
constexpr double kSameParts = 0.9;

TEST(NeuronMatchingTest, EqualsTheReferenceWithADenseBaseline) {
  const std::vector<std::int64_t> layers = {0, 2, 5};
  spec::NeuronMatchingSpec asked =
      Ask("tiny-mixtral", layers, {0, 1, 2, 5, 3, 6, 0, 8, 7, 8});
  asked.baseline = "tiny-mistral";
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  const Comparison found =
      CompareAll("matching/tiny-mixtral", "with_baseline", layers, log);
  EXPECT_EQ(found.problem, "");
  EXPECT_GE(found.same, kSameParts * found.parts);
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

struct Routed {
  const char* model;
  const char* file;
  std::vector<std::int64_t> layers;
  std::vector<std::int64_t> pairs;
};

void PrintTo(const Routed& routed, std::ostream* out) { *out << routed.model; }

class RoutedMatchingTest : public testing::TestWithParam<Routed> {};

TEST_P(RoutedMatchingTest, EqualsTheReference) {
  const Routed& routed = GetParam();

  const Log log =
      RunSpec(Normalised(Ask(routed.model, routed.layers, routed.pairs)));

  ASSERT_TRUE(log.status.ok()) << log.status;
  const Comparison found =
      CompareAll(routed.file, "routed", routed.layers, log);
  EXPECT_EQ(found.problem, "");
  EXPECT_GE(found.same, kSameParts * found.parts);
}

INSTANTIATE_TEST_SUITE_P(
    Models, RoutedMatchingTest,
    testing::Values(
        Routed{"tiny-deepseek", "matching/tiny-deepseek", {1, 4},
               {0, 1, 2, 5, 31, 17}},
        Routed{"mixtral", "matching/mixtral", {0, 1}, {0, 1, 2, 5, 7, 3}},
        Routed{"deepseek", "matching/deepseek", {1, 2}, {0, 1, 2, 5, 11, 3}},
        Routed{"phimoe", "phimoe", {0, 1}, {0, 1, 2, 3}},
        Routed{"gpt_oss", "gpt_oss", {0, 1}, {0, 1, 2, 3}},
        Routed{"llama4_text", "llama4_text", {1, 3}, {0, 1, 2, 3}},
        Routed{"dbrx", "dbrx", {0, 1}, {0, 1, 2, 3}},
        Routed{"jetmoe", "jetmoe", {0, 1}, {0, 1, 2, 3}},
        Routed{"grok1", "grok1", {0, 1}, {0, 1, 2, 3}}));

TEST(NeuronMatchingTest, EqualsTheReferenceOnADevice) {
  const spec::AnalysisSpec spec =
      Normalised(Ask("tiny-deepseek", {1, 4}, {0, 1, 2, 5, 31, 17}));

  const Log log = RunSpec(spec, {2, {}, -1, "cpu:0"});

  ASSERT_TRUE(log.status.ok()) << log.status;
  const Comparison found =
      CompareAll("matching/tiny-deepseek", "routed", {1, 4}, log);
  EXPECT_EQ(found.problem, "");
  EXPECT_GE(found.same, kSameParts * found.parts);
  EXPECT_EQ(SchemaProblem(spec, log), "");
  const auto arrays = Join(log);
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.joint.gap")),
              ElementsAre(0, 0, 0));
}

TEST(NeuronMatchingTest, MatchesAsManyPairsAtOnceAsADeviceHasMemoryFor) {
  // 1.3 GB each; 80 MB each; 23 GB.
  EXPECT_EQ(internal::MatchingsOnDevice(14336, 4096, 16), 3);
  EXPECT_EQ(internal::MatchingsOnDevice(1408, 2048, 16), 16);
  EXPECT_EQ(internal::MatchingsOnDevice(65536, 8192, 4), 1);
}

TEST(NeuronMatchingTest, StatesTheMemoryOfADevice) {
  const ModelInputs inputs = OpenInputs("tiny-deepseek");
  const spec::AnalysisSpec spec =
      Normalised(Ask("tiny-deepseek", {1}, {0, 1}));
  ComputePlace place;
  place.threads = 3;
  EXPECT_EQ(EstimateCost(spec, *inputs.checkpoint, place).device_bytes, 0);
  place.device = "cuda:0";

  EXPECT_EQ(EstimateCost(spec, *inputs.checkpoint, place).device_bytes,
            3 * numerics::DeviceMatchingBytes(
                    inputs.checkpoint->config().expert_width,
                    inputs.checkpoint->config().width));
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

TEST(NeuronMatchingTest, LeavesOutWiderSharedExperts) {
  spec::NeuronMatchingSpec asked =
      Ask("tiny-deepseek", {1, 4}, {0, 1, 2, 5, 31, 17});
  asked.include_shared = true;

  const Log log = RunSpec(Normalised(asked));

  ASSERT_TRUE(log.status.ok()) << log.status;
  const Comparison found =
      CompareAll("matching/tiny-deepseek", "routed", {1, 4}, log);
  EXPECT_EQ(found.problem, "");
  EXPECT_EQ(Join(log).at("participants").shape[0], 32);
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

TEST(NeuronMatchingTest, StatesTheMemoryOfEveryThreadAndOfTheNull) {
  spec::NeuronMatchingSpec asked = Ask("tiny-deepseek", {1}, {0, 1});
  const ModelInputs inputs = OpenInputs("tiny-deepseek");
  const std::int64_t neurons = inputs.checkpoint->config().expert_width;
  const std::int64_t depth = inputs.checkpoint->config().width;
  const auto memory = [&](int threads) {
    ComputePlace place;
    place.threads = threads;
    return EstimateCost(Normalised(asked), *inputs.checkpoint, place)
        .memory_bytes;
  };
  const std::int64_t plain = memory(5);

  // A cost matrix and both sides of a pair in fp32.
  EXPECT_GE(plain - memory(1),
            4 * 4 * (neurons * neurons + 2 * neurons * depth));
  asked.null_draws = 2;
  // At least the six matrices of a draw in place of the two sides.
  EXPECT_GE(memory(5) - plain, 5 * 4 * 3 * neurons * depth);
}

TEST(NeuronMatchingTest, GivesTheSameBytesForAnyNumberOfThreadsOnADevice) {
  const spec::AnalysisSpec spec = Normalised(
      Ask("tiny-deepseek", {1, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  const std::vector<std::string> whole =
      Images(RunSpec(spec, {1, {}, -1, "cpu:0"}));

  EXPECT_EQ(Images(RunSpec(spec, {3, {}, -1, "cpu:0"})), whole);
  EXPECT_EQ(Images(RunSpec(spec, {3, {7, ""}, -1, "cpu:0"})),
            std::vector<std::string>(whole.begin() + 7, whole.end()));
}

TEST(NeuronMatchingTest, StopsBetweenChunksWhenCancelled) {
  const Log log = RunSpec(
      Normalised(Ask("tiny-deepseek", {1, 2}, {0, 1, 2, 3})), {1, {}, 3});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 3U);
}

}  // namespace
}  // namespace moescope::analysis
