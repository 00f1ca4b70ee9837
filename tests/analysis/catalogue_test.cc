#include "moescope/analysis/catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::Not;

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const spec::AnalysisInfo& info : Catalogue()) {
    names.push_back(info.name);
  }
  return names;
}

TEST(CatalogueTest, ListsEveryAnalysisInTheOrderOfTheSpecs) {
  EXPECT_THAT(Names(),
              ElementsAre("routing_trace", "expert_similarity",
                          "neuron_weight_statistics", "activation_statistics",
                          "router_regression", "matrix_pca", "neuron_pca",
                          "static_suite", "neuron_matching"));
}

TEST(CatalogueTest, SaysWhatEveryParameterAndArrayMeans) {
  EXPECT_THAT(
      Catalogue(),
      Each(AllOf(
          Field(&spec::AnalysisInfo::summary, Not(IsEmpty())),
          Field(&spec::AnalysisInfo::definition, Not(IsEmpty())),
          Field(&spec::AnalysisInfo::parameters,
                Each(Field(&spec::ParameterInfo::meaning, Not(IsEmpty())))))));
}

TEST(CatalogueTest, GivesDefaultsAsJson) {
  const spec::AnalysisInfo& info = Catalogue()[2];

  EXPECT_EQ(info.parameters[6].name, "quantiles");
  EXPECT_EQ(info.parameters[6].type, "list of double");
  EXPECT_EQ(info.parameters[6].default_value,
            "[0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]");
  EXPECT_EQ(info.parameters[7].default_value, "true");
}

TEST(CatalogueTest, KnowsWhichAnalysesNeedAForwardPass) {
  EXPECT_TRUE(NeedsModel(spec::RoutingTraceSpec()));
  EXPECT_FALSE(NeedsModel(spec::ExpertSimilaritySpec()));
  EXPECT_FALSE(NeedsModel(spec::NeuronWeightStatisticsSpec()));
  EXPECT_TRUE(NeedsModel(spec::ActivationStatisticsSpec()));
  EXPECT_FALSE(NeedsModel(spec::RouterRegressionSpec()));
  EXPECT_FALSE(NeedsModel(spec::StaticSuiteSpec()));
}

TEST(CatalogueTest, TellsTheFactsOfACheckpoint) {
  const spec::ModelFacts facts =
      FactsOf(*OpenInputs("tiny-deepseek").checkpoint, "tiny-deepseek");

  EXPECT_EQ(facts.name, "tiny-deepseek");
  EXPECT_THAT(facts.moe_layers, ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(facts.num_layers, 5);
  EXPECT_EQ(facts.num_experts, 32);
  EXPECT_TRUE(facts.has_shared_experts);
  EXPECT_FALSE(facts.is_dense);
  EXPECT_TRUE(
      FactsOf(*OpenInputs("tiny-deepseek").baseline, "tiny-mistral").is_dense);
}

TEST(CatalogueTest, EstimatesOneReadingOfTheExpertsForTheirSimilarity) {
  spec::ExpertSimilaritySpec asked;
  asked.model = "tiny-mixtral";
  asked.layers = {0};
  asked.levels = {"matrix"};
  const ModelInputs inputs = OpenInputs("tiny-mixtral");
  const auto coordinates =
      3 * 256 * static_cast<std::int64_t>(inputs.checkpoint->config().width);

  const CostEstimate cost = EstimateCost(Normalised(asked), *inputs.checkpoint);

  EXPECT_EQ(cost.bytes_read, coordinates * 8 * 2);
  EXPECT_EQ(cost.flops, static_cast<double>(coordinates * 8 * 9));
  EXPECT_GT(cost.seconds, 0);
}

TEST(CatalogueTest, EstimatesTheSuiteAtOneReadingOfItsParts) {
  spec::StaticSuiteSpec suite;
  suite.model = "tiny-mixtral";
  spec::MatrixPcaSpec components;
  components.model = "tiny-mixtral";
  spec::NeuronPcaSpec neurons;
  neurons.model = "tiny-mixtral";
  const ModelInputs inputs = OpenInputs("tiny-mixtral");
  const std::int64_t routers =
      6 * 8 * inputs.checkpoint->config().width * 2;

  const CostEstimate one = EstimateCost(Normalised(components),
                                        *inputs.checkpoint);
  const CostEstimate all = EstimateCost(Normalised(suite), *inputs.checkpoint);
  const CostEstimate twice = EstimateCost(Normalised(neurons),
                                          *inputs.checkpoint);

  EXPECT_EQ(all.bytes_read, one.bytes_read + routers);
  EXPECT_GT(all.flops, 1.5 * one.flops);
  EXPECT_EQ(twice.bytes_read, 2 * one.bytes_read);
  EXPECT_GT(twice.memory_bytes, one.memory_bytes);
}

TEST(CatalogueTest, EstimatesMoreWorkWhenAllExpertsSeeAllTokens) {
  spec::RoutingTraceSpec trace;
  trace.model = "tiny-mixtral";
  trace.input = ExpectedInput("tiny-mixtral", "prose");
  spec::ActivationStatisticsSpec activations;
  activations.model = trace.model;
  activations.input = trace.input;
  const ModelInputs inputs = OpenInputs("tiny-mixtral");

  const CostEstimate routed =
      EstimateCost(Normalised(trace), *inputs.checkpoint);
  const CostEstimate all =
      EstimateCost(Normalised(activations), *inputs.checkpoint);

  EXPECT_GT(all.flops, 2 * routed.flops);
  EXPECT_GT(all.memory_bytes, routed.memory_bytes);
  EXPECT_EQ(all.bytes_read, routed.bytes_read);
}

TEST(CatalogueTest, EstimatesTheMemoryOfTheTokensThatRunTogether) {
  spec::RoutingTraceSpec trace;
  trace.model = "tiny-mixtral";
  trace.input.lengths.assign(64, 1024);
  trace.input.ids.assign(65536, 7);
  const ModelInputs inputs = OpenInputs("tiny-mixtral");
  const auto memory = [&](std::int64_t block_tokens) {
    trace.block_tokens = block_tokens;
    return EstimateCost(Normalised(trace), *inputs.checkpoint, {"cpu", 2})
        .memory_bytes;
  };

  const std::int64_t one = memory(1024);
  const std::int64_t eight = memory(8192);
  const std::int64_t all = memory(65536);

  EXPECT_LT(one, 16 << 20);
  EXPECT_GT(eight, 3 * one);
  EXPECT_GT(all, 6 * eight);
  // Tokens beyond the input are not there.
  EXPECT_EQ(memory(1 << 20), all);
}

TEST(CatalogueTest, EstimatesTheMemoryOfAccumulators) {
  spec::ActivationStatisticsSpec one;
  one.model = "tiny-mixtral";
  one.input = ExpectedInput("tiny-mixtral", "short");
  one.layers = {0};
  spec::ActivationStatisticsSpec three = one;
  three.layers = {0, 1, 2};
  const ModelInputs inputs = OpenInputs("tiny-mixtral");

  const std::int64_t more =
      EstimateCost(Normalised(three), *inputs.checkpoint).memory_bytes -
      EstimateCost(Normalised(one), *inputs.checkpoint).memory_bytes;

  // Two layers of 8 experts with 256 neurons.
  EXPECT_GE(more, 2 * 8 * 256 * 160);
}

TEST(CatalogueTest, RefusesToTraceWithoutAModel) {
  ModelInputs inputs = OpenInputs("tiny-mixtral");
  inputs.model = nullptr;
  spec::RoutingTraceSpec asked;
  asked.model = "tiny-mixtral";
  asked.input = ExpectedInput("tiny-mixtral", "short");
  ThreadPool pool(1);
  class Nowhere final : public ChunkSink {
    absl::Status Emit(spec::Chunk) override { return absl::OkStatus(); }
    absl::Status SaveState(std::string) override { return absl::OkStatus(); }
  } sink;

  const absl::Status status =
      analysis::Run(Normalised(asked), inputs, {}, pool, RunContext(), sink);

  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace moescope::analysis
