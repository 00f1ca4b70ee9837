// The analyses on the fixture of every family, against the reference values.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "moescope/analysis/catalogue.h"
#include "moescope/model/safetensors.h"
#include "server/model/families/family_internal.h"
#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

struct Family {
  const char* name;
  int moe_layers;
  /// Whether activation_statistics of the reference also counts above 0.01.
  bool three_thresholds = false;
};

void PrintTo(const Family& family, std::ostream* out) { *out << family.name; }

class FamilyFixtureTest : public testing::TestWithParam<Family> {
 protected:
  template <typename Spec>
  static Spec Ask() {
    Spec spec;
    spec.model = GetParam().name;
    return spec;
  }

  // "" when all expected arrays with one of `endings` fit; counts them.
  std::string Check(const std::string& group,
                    const std::vector<std::string>& endings, const Log& log,
                    const Tolerance& tolerance) {
    return Compare(GetParam().name, group, endings, log, tolerance,
                   &compared_);
  }

  int compared_ = 0;
};

// Bounds: expert_similarity_test.cc.
TEST_P(FamilyFixtureTest, SimilaritiesEqualTheReference) {
  const Log log = RunSpec(Normalised(Ask<spec::ExpertSimilaritySpec>()));

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_EQ(Check("expert_similarity/routed",
                  {"matrix", "neuron_average", "router"}, log,
                  {4e-6, 0, 0, 0}),
            "");
  EXPECT_EQ(compared_, GetParam().moe_layers * 7);
}

// Bounds: neuron_weight_statistics_test.cc.
TEST_P(FamilyFixtureTest, WeightStatisticsEqualTheReference) {
  const std::string group = "neuron_weight_statistics/routed";

  const Log log = RunSpec(Normalised(Ask<spec::NeuronWeightStatisticsSpec>()));

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_EQ(Check(group,
                  {"norms", "norm_mean", "norm_min", "norm_max",
                   "norm_quantiles", "frobenius"},
                  log, {0, 4e-6, 0, 0}),
            "");
  EXPECT_EQ(compared_, GetParam().moe_layers * 3 * 6);
  EXPECT_EQ(Check(group, {"norm_std"}, log, {1.3e-5, 0, 0, 0}), "");
  EXPECT_EQ(Check(group, {"effective_rank"}, log, {0, 2.3e-5, 0, 0}), "");
  EXPECT_EQ(compared_, GetParam().moe_layers * 3);
}

// Selection in the fixtures is by more than 1e-4: ids are equal.
TEST_P(FamilyFixtureTest, RoutingEqualsTheReference) {
  auto asked = Ask<spec::RoutingTraceSpec>();
  asked.input = ExpectedInput(GetParam().name, "reference");
  asked.fields = {"ids", "weights", "logits", "scores", "margin", "entropy"};
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_EQ(Check("routing_trace/reference",
                  {"topk_ids", "topk_weights", "router_logits",
                   "router_scores", "margin", "entropy"},
                  log, {2e-5, 1e-4, 0, 0}),
            "");
  EXPECT_EQ(compared_, GetParam().moe_layers * 6);
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

// At most one value of a layer is near a threshold and may change side.
TEST_P(FamilyFixtureTest, ActivationStatisticsEqualTheReference) {
  const std::string group = "activation_statistics/reference";
  auto asked = Ask<spec::ActivationStatisticsSpec>();
  asked.input = ExpectedInput(GetParam().name, "reference");
  asked.thresholds = GetParam().three_thresholds
                         ? std::vector<double>{0.001, 0.01, 0.1}
                         : std::vector<double>{0.001, 0.1};
  asked.histogram = {-0.5, 3.5, 65};
  asked.top_tokens = 2;

  const Log log = RunSpec(Normalised(asked));

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_EQ(Check(group,
                  {".mean", ".mean_abs", ".max", ".second_moment",
                   ".top_values"},
                  log, {2e-5, 1e-4, 0, 0}),
            "");
  EXPECT_EQ(compared_, GetParam().moe_layers * 9);
  EXPECT_EQ(Check(group,
                  {"fraction", "fraction_routed", ".frequency", "thresholds",
                   "routed_tokens", "histogram_edges"},
                  log, {1e-6, 0, 0, 1}),
            "");
  EXPECT_GE(compared_, GetParam().moe_layers * 9);
  // Two tokens of llama4_text have the same values but for rounding.
  EXPECT_EQ(CompareTopTokens(GetParam().name, group, log, {2e-5, 1e-4, 0, 0},
                             &compared_),
            "");
  EXPECT_EQ(compared_, GetParam().moe_layers);
  // A value near an edge of its bin may change side.
  EXPECT_EQ(Check(group, {".histogram"}, log, {0, 0, 1, 0}), "");
}

constexpr Family kFamilies[] = {
    {"mixtral", 2, true}, {"deepseek", 2, true},
    {"deepseek_v2", 2},   {"deepseek_v3", 2},
    {"olmoe", 2},         {"deepseek_v3_negbias", 1},
    {"qwen2_moe", 2},     {"qwen3_moe", 2},
    {"phimoe", 2},        {"qwen3_moe_sparse_step", 2},
    {"gpt_oss", 2},       {"llama4_text", 2},
    {"dbrx", 2},          {"jetmoe", 2},
    {"grok1", 2}};

INSTANTIATE_TEST_SUITE_P(AllFamilies, FamilyFixtureTest,
                         testing::ValuesIn(kFamilies),
                         [](const testing::TestParamInfo<Family>& row) {
                           return std::string(row.param.name);
                         });

TEST(FamilyFixturesTest, HaveOneOfEveryFamily) {
  std::set<std::string> covered = {"llama", "mistral"};  // without experts
  for (const Family& family : kFamilies) {
    covered.insert(OpenInputs(family.name).checkpoint->config().family);
  }
  std::set<std::string> registered;
  for (const model::internal::Family& family : model::internal::Families()) {
    registered.insert(family.name);
  }
  EXPECT_EQ(covered, registered);
}

std::int64_t SizeOf(const model::Checkpoint& checkpoint,
                    const std::string& name) {
  const model::TensorEntry* entry = checkpoint.FindTensor(name);
  return entry == nullptr ? 0 : entry->size_bytes;
}

// A dense layer of latent attention: what a trace of the layer behind it reads
// of it, and the products of its matrices with one token. The token's scores
// are a product of 20 numbers, its mix one of 10, both for 4 heads.
TEST(LatentCostTest, CountsTheMatricesOfTheFiles) {
  spec::RoutingTraceSpec asked;
  asked.model = "deepseek_v2";
  asked.input.ids = {1};
  asked.input.lengths = {1};
  asked.layers = {1};
  const ModelInputs inputs = OpenInputs("deepseek_v2");
  const model::Checkpoint& checkpoint = *inputs.checkpoint;
  const std::string attention = "model.layers.0.self_attn.";
  const std::int64_t latent =
      SizeOf(checkpoint, attention + "q_a_proj.weight") +
      SizeOf(checkpoint, attention + "q_b_proj.weight") +
      SizeOf(checkpoint, attention + "kv_a_proj_with_mqa.weight") +
      SizeOf(checkpoint, attention + "kv_b_proj.weight") +
      SizeOf(checkpoint, attention + "o_proj.weight");
  const std::int64_t dense =
      3 * SizeOf(checkpoint, "model.layers.0.mlp.gate_proj.weight");
  const std::string block = "model.layers.1.mlp.";
  const std::int64_t common =
      SizeOf(checkpoint, block + "gate.weight") +
      3 * SizeOf(checkpoint, block + "shared_experts.up_proj.weight");
  const std::int64_t expert =
      3 * SizeOf(checkpoint, block + "experts.0.up_proj.weight");

  const CostEstimate cost = EstimateCost(Normalised(asked), checkpoint);

  EXPECT_EQ(cost.bytes_read, 2 * latent + dense + common + 12 * expert);
  EXPECT_EQ(cost.flops,
            2.0 * static_cast<double>(2 * latent + dense + common +
                                      3 * expert) / 4 +
                2 * 2 * 4 * (20 + 10));
}

// Of two arrays [T, K] of chosen experts.
int TokensOfOtherExperts(const spec::Array& a, const spec::Array& b) {
  const std::vector<double> left = spec::ToDoubles(a);
  const std::vector<double> right = spec::ToDoubles(b);
  const auto k = static_cast<std::ptrdiff_t>(a.shape.at(1));
  int others = 0;
  for (auto i = left.begin(), j = right.begin(); i != left.end();
       i += k, j += k) {
    others += std::is_permutation(i, i + k, j) ? 0 : 1;
  }
  return others;
}

// By hand from the reference's logits and the corrections: 6 of 24 tokens.
TEST(GroupedRoutingTest, CountsTokensThatTheValueOfMaskedGroupsReroutes) {
  spec::RoutingTraceSpec asked;
  asked.model = "deepseek_v3_negbias";
  asked.input = ExpectedInput("deepseek_v3_negbias", "reference");
  asked.fields = {"ids", "scores", "choice", "group_mask"};
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_EQ(SchemaProblem(spec, log), "");
  const auto arrays = Join(log);
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.tokens_by_mask")),
              testing::ElementsAre(6));
  EXPECT_THAT(arrays.at("layer.1.choice").shape, testing::ElementsAre(24, 16));
  EXPECT_THAT(arrays.at("layer.1.group_mask").shape,
              testing::ElementsAre(24, 4));
  EXPECT_LT(spec::ToDoubles(arrays.at("layer.1.choice"))[0],
            spec::ToDoubles(arrays.at("layer.1.router_scores"))[0]);
}

TEST(GroupedRoutingTest, TheOtherConventionReroutesAsManyTokensAsWereCounted) {
  spec::RoutingTraceSpec asked;
  asked.model = "deepseek_v3_negbias";
  asked.input = ExpectedInput("deepseek_v3_negbias", "reference");
  asked.masked_groups = "zero";
  const spec::AnalysisSpec spec = Normalised(asked);
  const auto zero = Join(RunSpec(spec));
  asked.masked_groups = "negative_infinity";
  const auto own = Join(RunSpec(Normalised(asked)));

  EXPECT_EQ(std::get<spec::RoutingTraceSpec>(spec).masked_groups, "zero");
  EXPECT_EQ(TokensOfOtherExperts(own.at("layer.1.topk_ids"),
                                 zero.at("layer.1.topk_ids")),
            6);
  EXPECT_THAT(spec::ToDoubles(zero.at("layer.1.tokens_by_mask")),
              testing::ElementsAre(6));
  EXPECT_THAT(spec::ToDoubles(own.at("layer.1.tokens_by_mask")),
              testing::ElementsAre(6));
}

TEST(GroupedRoutingTest, PositiveChoicesAreNotRerouted) {
  spec::RoutingTraceSpec asked;
  asked.model = "deepseek_v3";
  asked.input = ExpectedInput("deepseek_v3", "reference");

  const Log log = RunSpec(Normalised(asked));

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_THAT(spec::ToDoubles(Join(log).at("layer.2.tokens_by_mask")),
              testing::ElementsAre(0));
}

template <typename T>
std::vector<double> Reference(const model::SafetensorsFile& file,
                              const std::string& name) {
  const model::TensorEntry& entry = file.tensors().at(name);
  std::vector<T> values(static_cast<std::size_t>(entry.size_bytes) / sizeof(T));
  std::memcpy(values.data(), entry.data, values.size() * sizeof(T));
  return {values.begin(), values.end()};
}

// What follows from rows of `experts` logits, each in fp64.
struct Softmax {
  std::vector<double> scores;
  std::vector<double> margins;
  std::vector<double> entropies;
};

Softmax SoftmaxOf(const std::vector<double>& logits, std::size_t experts,
                  std::size_t chosen) {
  Softmax softmax;
  for (std::size_t row = 0; row < logits.size(); row += experts) {
    double sum = 0;
    for (std::size_t e = 0; e < experts; ++e) sum += std::exp(logits[row + e]);
    std::vector<double> scores;
    double entropy = 0;
    for (std::size_t e = 0; e < experts; ++e) {
      scores.push_back(std::exp(logits[row + e]) / sum);
      entropy -= scores.back() * std::log(scores.back());
    }
    softmax.scores.insert(softmax.scores.end(), scores.begin(), scores.end());
    std::sort(scores.rbegin(), scores.rend());
    softmax.margins.push_back(scores[chosen - 1] - scores[chosen]);
    softmax.entropies.push_back(entropy);
  }
  return softmax;
}

// The fixture's own names of the attention's routing.
TEST(AttentionRouterTest, TraceEqualsTheReference) {
  spec::RoutingTraceSpec asked;
  asked.model = "jetmoe";
  asked.input = ExpectedInput("jetmoe", "reference");
  asked.fields = {"ids",
                  "attention_ids",
                  "attention_weights",
                  "attention_logits",
                  "attention_scores",
                  "attention_margin",
                  "attention_entropy"};
  const spec::AnalysisSpec spec = Normalised(asked);
  const auto reference = *model::SafetensorsFile::Open(
      MOESCOPE_SOURCE_DIR
      "/tests/testdata/fixtures/jetmoe/reference.safetensors");

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_EQ(SchemaProblem(spec, log), "");
  const auto arrays = Join(log);
  EXPECT_EQ(arrays.size(), 2 + 2 * 7);
  for (const char* layer : {"0", "1"}) {
    const std::string prefix = absl::StrCat("layer.", layer, ".attention_");
    const std::string name = absl::StrCat("layer.", layer, ".attn_");
    EXPECT_EQ(spec::ToDoubles(arrays.at(prefix + "topk_ids")),
              Reference<std::int64_t>(*reference, name + "topk_ids"));
    EXPECT_THAT(spec::ToDoubles(arrays.at(prefix + "topk_weights")),
                testing::Pointwise(testing::DoubleNear(2e-5),
                                   Reference<float>(*reference,
                                                    name + "topk_weights")));
    const auto logits = Reference<float>(*reference, name + "router_logits");
    EXPECT_THAT(spec::ToDoubles(arrays.at(prefix + "router_logits")),
                testing::Pointwise(testing::DoubleNear(2e-5), logits));
    const Softmax softmax = SoftmaxOf(logits, 8, 2);
    EXPECT_THAT(spec::ToDoubles(arrays.at(prefix + "router_scores")),
                testing::Pointwise(testing::DoubleNear(2e-5), softmax.scores));
    EXPECT_THAT(spec::ToDoubles(arrays.at(prefix + "margin")),
                testing::Pointwise(testing::DoubleNear(2e-5), softmax.margins));
    EXPECT_THAT(
        spec::ToDoubles(arrays.at(prefix + "entropy")),
        testing::Pointwise(testing::DoubleNear(2e-5), softmax.entropies));
  }
}

}  // namespace
}  // namespace moescope::analysis
