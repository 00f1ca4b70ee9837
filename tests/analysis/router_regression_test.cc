#include "moescope/analysis/router_regression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "moescope/numerics/linear_regression.h"
#include "server/analysis/regression_arrays_internal.h"
#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

// Mean neurons are sums of fp32 values over at most 2048 rows, so a cosine errs
// by about √2048 · 6e-8 = 3e-6; maps spread over 0.1 and more, so slopes,
// intercepts and correlations err by some ten times that.
constexpr Tolerance kFit = {3e-5, 3e-5, 0, 0};
// d ln p / dr is n r / (1 - r²), at most 500 here.
constexpr Tolerance kP = {1e-12, 500 * 3e-5, 0, 0};
// Relabelings whose r is as close to r as it errs.
constexpr Tolerance kMantel = {4.0 / 40320, 0, 0, 0};

const std::vector<std::string>& FitNames() {
  static const auto* const names = new std::vector<std::string>{
      "pairs", "chance_r2", "slope", "intercept", ".r", ".r2", "mean_r2"};
  return *names;
}

spec::RouterRegressionSpec Ask(const std::string& model) {
  spec::RouterRegressionSpec spec;
  spec.model = model;
  return spec;
}

std::string CompareFits(const std::string& model, const Log& log,
                        int* compared) {
  return CompareValues(model, "router_regression/routed", FitNames(), log, kFit,
                       compared);
}

TEST(RouterRegressionTest, EqualsTheReferenceForEightExperts) {
  const spec::AnalysisSpec spec = Normalised(Ask("tiny-mixtral"));

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(CompareFits("tiny-mixtral", log, &compared), "");
  EXPECT_EQ(compared, 6 * (2 + 3 * 6) + 3);
  EXPECT_EQ(CompareValues("tiny-mixtral", "router_regression/routed",
                          {"proj.p"}, log, kP, &compared),
            "");
  EXPECT_EQ(compared, 6 * 3);
  EXPECT_EQ(CompareValues("tiny-mixtral", "router_regression/routed",
                          {"rounded", "relabelings", "mantel_p_se"}, log,
                          {1e-12, 0, 0, 0}, &compared),
            "");
  EXPECT_EQ(CompareValues("tiny-mixtral", "router_regression/routed",
                          {"mantel_p", "mantel_p_greater"}, log, kMantel,
                          &compared),
            "");
  EXPECT_EQ(compared, 6 * 3 * 2);
  EXPECT_EQ(SchemaProblem(spec, log), "");
  EXPECT_EQ(log.chunks.size(), 7U);
}

TEST(RouterRegressionTest, EqualsTheReferenceForManyExperts) {
  const Log log = RunSpec(Normalised(Ask("tiny-deepseek")));

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(CompareFits("tiny-deepseek", log, &compared), "");
  EXPECT_EQ(compared, 4 * (2 + 3 * 6) + 3);
  EXPECT_EQ(CompareValues("tiny-deepseek", "router_regression/routed",
                          {"proj.p"}, log, kP, &compared),
            "");
}

// Both p are shares of 10000 draws: 4 standard errors of their difference, of
// which an estimate below 1e-4 counts as 1e-4.
TEST(RouterRegressionTest, DrawsRelabelingsThatAgreeWithTheReference) {
  std::map<std::string, double> found =
      Scalars(RunSpec(Normalised(Ask("tiny-deepseek"))));
  const std::map<std::string, double> expected =
      ExpectedValues("tiny-deepseek", "router_regression/routed");

  std::vector<std::string> outside;
  for (const auto& [name, p] : expected) {
    const bool is_p = name.find("mantel_p") != std::string::npos &&
                      name.find("_se") == std::string::npos;
    const double se = std::sqrt(std::max(p, 1e-4) * 2 / 10000);
    if (is_p && std::abs(found[name] - p) > 4 * se) {
      outside.push_back(absl::StrCat(name, " ", found[name], " ", p));
    }
  }
  EXPECT_THAT(outside, testing::IsEmpty());
}

TEST(RouterRegressionTest, EqualsTheReferenceOnRandomWeights) {
  const Log mixtral = RunSpec(Normalised(Ask("mixtral")));
  const Log deepseek = RunSpec(Normalised(Ask("deepseek")));

  int compared = 0;
  EXPECT_EQ(CompareFits("mixtral", mixtral, &compared), "");
  EXPECT_EQ(CompareFits("deepseek", deepseek, &compared), "");
  EXPECT_GT(compared, 0);
}

// The paper's Table 3 is the mean over layers of r² that Table 5 gives the
// roots of, rounded to two decimals first.
TEST(RouterRegressionTest, ReproducesTheMeansOfThePaper) {
  std::ifstream file(absl::StrCat(MOESCOPE_SOURCE_DIR,
                                  "/tests/testdata/expected/paper_values.json"));
  const auto json = nlohmann::json::parse(file);
  const auto& table5 = json.at("table5_r_gate_proj");
  const auto& table3 = json.at("table3_mean_r2").at("gate_proj");

  std::map<std::string, double> means;
  std::map<std::string, double> published;
  for (const std::string model :
       {"mixtral-8x7b", "mixtral-8x22b", "deepseek-moe-16b", "grok-1"}) {
    internal::RegressionMeans rule = *internal::RegressionMeans::Create(1, "");
    std::int64_t layer = 0;
    for (const double r : table5.at(model).get<std::vector<double>>()) {
      rule.Add(layer++, {r * r});
    }
    spec::Chunk chunk;
    rule.AddArrays("", {"gate_proj"}, chunk);
    ASSERT_EQ(chunk.arrays[0].name, "gate_proj.mean_r2_rounded");
    means[model] = numerics::RoundDecimals(
        spec::ToDoubles(chunk.arrays[0])[0], 2);
    published[model] = table3.at(model).get<double>();
  }

  EXPECT_EQ(means, published);
}

TEST(RouterRegressionTest, TakesMeansOverLayersThatHaveANumber) {
  internal::RegressionMeans means = *internal::RegressionMeans::Create(1, "");
  means.Add(0, {0.25});
  means.Add(1, {std::nan("")});
  means.Add(2, {0.75});
  spec::Chunk chunk;

  means.AddArrays("", {"gate_proj"}, chunk);

  ASSERT_EQ(chunk.arrays.size(), 3U);
  EXPECT_EQ(spec::ToDoubles(chunk.arrays[0])[0], 0.5);
  EXPECT_EQ(spec::ToDoubles(chunk.arrays[1])[0], 0.5);
  EXPECT_EQ(chunk.arrays[2].name, "gate_proj.mean_r2_layers");
  EXPECT_EQ(spec::ToDoubles(chunk.arrays[2])[0], 2);
}

TEST(RouterRegressionTest, TellsWhoseWeightsAreNoNumbers) {
  const double nan = std::nan("");
  internal::RegressionMaps maps;
  maps.experts = 3;
  maps.router = {1, 0.1, 0.2, 0.1, 1, 0.4, 0.2, 0.4, 1};
  maps.averages = {{1, nan, 0.2, nan, nan, nan, 0.2, nan, 1}};
  maps.nonfinite = {{0, 2, 0}};
  maps.router_nonfinite = 0;
  ThreadPool pool(1);
  Log log;
  log.chunks.emplace_back();

  const auto r2 = internal::AddRegression(maps, {"up_proj"}, {10, 0}, "layer.4.",
                                          pool, RunContext(), log.chunks[0]);

  ASSERT_TRUE(r2.ok()) << r2.status();
  EXPECT_TRUE(std::isnan((*r2)[0]));
  auto arrays = Join(log);
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.4.up_proj.nonfinite")),
              testing::ElementsAre(0, 2, 0));
  EXPECT_EQ(spec::ToDoubles(arrays.at("layer.4.router_nonfinite"))[0], 0);
}

TEST(RouterRegressionTest, ResumesWithItsStateAndWithout) {
  spec::RouterRegressionSpec asked = Ask("tiny-mixtral");
  asked.layers = {0, 3, 5};
  const spec::AnalysisSpec spec = Normalised(asked);
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.chunks.size(), 4U);
  ASSERT_EQ(whole.states.size(), 3U);

  EXPECT_EQ(Images(RunSpec(spec, {1, {2, whole.states[1]}, -1})),
            Images(whole, 2));
  EXPECT_EQ(Images(RunSpec(spec, {1, {2, ""}, -1})), Images(whole, 2));
  EXPECT_EQ(Images(RunSpec(spec, {1, {3, whole.states[0]}, -1})),
            Images(whole, 3));
  EXPECT_EQ(RunSpec(spec, {1, {2, whole.states[1]}, -1}).states.size(), 1U);
  EXPECT_THAT(RunSpec(spec, {1, {2, whole.states[1]}, -1}).reported,
              testing::ElementsAre(3));
}

TEST(RouterRegressionTest, RefusesADamagedState) {
  const Log log =
      RunSpec(Normalised(Ask("tiny-mixtral")), {1, {1, "short"}, -1});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kDataLoss);
}

TEST(RouterRegressionTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const spec::AnalysisSpec spec = Normalised(Ask("tiny-deepseek"));

  EXPECT_EQ(Images(RunSpec(spec, {1, {}, -1})),
            Images(RunSpec(spec, {2, {}, -1})));
}

TEST(RouterRegressionTest, StopsBetweenLayersWhenCancelled) {
  const Log log = RunSpec(Normalised(Ask("tiny-mixtral")), {1, {}, 3});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 2U);
}

}  // namespace
}  // namespace moescope::analysis
