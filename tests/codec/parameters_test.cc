#include "moescope/codec/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"

#include "moescope/base/error.h"

namespace moescope::codec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

spec::AnalysisSpec Activation() { return spec::ActivationStatisticsSpec(); }
spec::AnalysisSpec Similarity() { return spec::ExpertSimilaritySpec(); }

TEST(SpecToJsonTest, ShowsFieldsInOrder) {
  spec::ExpertSimilaritySpec spec;
  spec.model = "tiny";
  spec.layers = {0, 1};
  EXPECT_EQ(SpecToJson(spec),
            R"({"model":"tiny","layers":[0,1],"levels":[],"projections":[],)"
            R"("participants":[],"include_shared":false,"baseline":""})");
}

TEST(SpecToJsonTest, ShowsShortInputsWhole) {
  spec::RoutingTraceSpec spec;
  spec.input = {{5, 6}, {2}, {"prose"}};
  EXPECT_THAT(
      SpecToJson(spec),
      HasSubstr(R"("input":{"ids":[5,6],"lengths":[2],"labels":["prose"]})"));
}

TEST(SpecToJsonTest, ShowsLongInputsAsDigest) {
  spec::RoutingTraceSpec spec;
  spec.input.ids.assign(65, 1);
  spec.input.lengths = {65};
  EXPECT_THAT(SpecToJson(spec),
              HasSubstr(R"("input":{"tokens":65,"sequences":1,"digest":")" +
                        spec::TokensDigest(spec.input)));
}

TEST(SpecToJsonTest, ShowsInputsWithLongLabelsAsDigest) {
  spec::RoutingTraceSpec spec;
  spec.input = {{5, 6}, {2}, {std::string(5000, 'x')}};
  EXPECT_THAT(SpecToJson(spec),
              HasSubstr(R"("input":{"tokens":2,"sequences":1,"digest":")"));
}

TEST(SpecToJsonTest, ShowsLongListsAsCountAndDigest) {
  spec::ExpertSimilaritySpec spec;
  spec.layers.assign(1024, 7);
  EXPECT_THAT(SpecToJson(spec), HasSubstr(R"("layers":[7,7,)"));
  spec.layers.push_back(7);
  EXPECT_THAT(SpecToJson(spec),
              HasSubstr(R"("layers":{"values":1025,"digest":")"));
}

TEST(SpecToJsonTest, NeverThrowsOnBytesThatAreNoText) {
  spec::RoutingTraceSpec spec;
  spec.model = "\xff";
  EXPECT_THAT(SpecToJson(spec), HasSubstr("\"model\":\"\xEF\xBF\xBD\""));
}

TEST(SetFromJsonTest, ReadsEveryType) {
  spec::AnalysisSpec spec = Activation();
  ASSERT_TRUE(SetFromJson(spec, "thresholds", "[0.001, 1]").ok());
  ASSERT_TRUE(SetFromJson(spec, "histogram", "[-0.5, 3.5, 65]").ok());
  ASSERT_TRUE(SetFromJson(spec, "top_tokens", "2").ok());
  ASSERT_TRUE(SetFromJson(spec, "neuron_layers", "[0,5]").ok());
  ASSERT_TRUE(SetFromJson(spec, "model", "tiny-mixtral").ok());
  const auto& activation = std::get<spec::ActivationStatisticsSpec>(spec);
  EXPECT_THAT(activation.thresholds, ElementsAre(0.001, 1));
  EXPECT_THAT(activation.histogram, ElementsAre(-0.5, 3.5, 65));
  EXPECT_EQ(activation.top_tokens, 2);
  EXPECT_THAT(activation.neuron_layers, ElementsAre(0, 5));
  EXPECT_EQ(activation.model, "tiny-mixtral");
}

TEST(SetFromJsonTest, ReadsBooleansAndQuotedStrings) {
  spec::AnalysisSpec spec = Similarity();
  ASSERT_TRUE(SetFromJson(spec, "include_shared", "true").ok());
  ASSERT_TRUE(SetFromJson(spec, "baseline", "\"tiny mistral\"").ok());
  const auto& similarity = std::get<spec::ExpertSimilaritySpec>(spec);
  EXPECT_TRUE(similarity.include_shared);
  EXPECT_EQ(similarity.baseline, "tiny mistral");
}

TEST(SetFromJsonTest, ASingleValueMakesAListOfOne) {
  spec::AnalysisSpec spec = Similarity();
  ASSERT_TRUE(SetFromJson(spec, "level", "router").ok());
  ASSERT_TRUE(SetFromJson(spec, "layers", "3").ok());
  const auto& similarity = std::get<spec::ExpertSimilaritySpec>(spec);
  EXPECT_THAT(similarity.levels, ElementsAre("router"));
  EXPECT_THAT(similarity.layers, ElementsAre(3));
}

TEST(SetFromJsonTest, ListsNeedNoBrackets) {
  spec::AnalysisSpec spec = Similarity();
  ASSERT_TRUE(SetFromJson(spec, "projections", "gate_proj,up_proj").ok());
  ASSERT_TRUE(SetFromJson(spec, "layers", "0,2").ok());
  ASSERT_TRUE(SetFromJson(spec, "participants", "0,1,S").ok());
  const auto& similarity = std::get<spec::ExpertSimilaritySpec>(spec);
  EXPECT_THAT(similarity.projections, ElementsAre("gate_proj", "up_proj"));
  EXPECT_THAT(similarity.layers, ElementsAre(0, 2));
  EXPECT_THAT(similarity.participants, ElementsAre("0", "1", "S"));
  ASSERT_TRUE(SetFromJson(spec, "participants", "[0, 1]").ok());
  EXPECT_THAT(std::get<spec::ExpertSimilaritySpec>(spec).participants,
              ElementsAre("0", "1"));
}

TEST(SetFromJsonTest, TokensAreOneSequenceOrSeveral) {
  spec::AnalysisSpec spec = Activation();
  ASSERT_TRUE(SetFromJson(spec, "input", "[1,2,3]").ok());
  EXPECT_THAT(spec::GetTokenInput(spec)->lengths, ElementsAre(3));
  ASSERT_TRUE(SetFromJson(spec, "input", "[[1,2],[3]]").ok());
  EXPECT_THAT(spec::GetTokenInput(spec)->ids, ElementsAre(1, 2, 3));
  EXPECT_THAT(spec::GetTokenInput(spec)->lengths, ElementsAre(2, 1));
}

TEST(SetFromJsonTest, TheConventionForMaskedGroupsIsOneOfThree) {
  spec::AnalysisSpec spec = spec::RoutingTraceSpec();
  const auto& word = std::get<spec::RoutingTraceSpec>(spec).masked_groups;
  ASSERT_TRUE(SetFromJson(spec, "masked_groups", "zero").ok());
  EXPECT_EQ(word, "zero");
  ASSERT_TRUE(SetFromJson(spec, "masked_groups", "\"model\"").ok());
  EXPECT_EQ(word, "model");
  const absl::Status status = SetFromJson(spec, "masked_groups", "spiral");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("spec.masked_groups: \"spiral\" is none of model, "
                        "zero, negative_infinity"));
}

TEST(SetFromJsonTest, PairsAreListsOfTwoOrOneFlatList) {
  spec::AnalysisSpec spec = spec::NeuronMatchingSpec();
  const auto& pairs = std::get<spec::NeuronMatchingSpec>(spec).pairs;
  ASSERT_TRUE(SetFromJson(spec, "pairs", "[[0,1],[2,3]]").ok());
  EXPECT_THAT(pairs, ElementsAre(0, 1, 2, 3));
  ASSERT_TRUE(SetFromJson(spec, "pairs", "[4,5]").ok());
  EXPECT_THAT(pairs, ElementsAre(4, 5));
  ASSERT_TRUE(SetFromJson(spec, "pairs", "6,7").ok());
  EXPECT_THAT(pairs, ElementsAre(6, 7));
}

TEST(SetFromJsonTest, ThreePlacesAreNoPair) {
  spec::AnalysisSpec spec = spec::NeuronMatchingSpec();
  for (const char* const json : {"[[0,1,2]]", "[[0,1],[2]]", "[[0,1],2]",
                                 "[[0,\"1\"]]"}) {
    const absl::Status status = SetFromJson(spec, "pairs", json);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_EQ(GetErrorDetails(status).fields.at(0).field, "spec.pairs");
  }
  EXPECT_TRUE(std::get<spec::NeuronMatchingSpec>(spec).pairs.empty());
}

TEST(SetFromJsonTest, AnUnknownNameListsTheParameters) {
  spec::AnalysisSpec spec = Similarity();
  const absl::Status status = SetFromJson(spec, "lairs", "[1]");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(status).fields.at(0).field, "spec.lairs");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model, layers, levels, projections"));
}

TEST(SetFromJsonTest, AWrongTypeLeavesTheSpecAsItWas) {
  spec::AnalysisSpec spec = Activation();
  ASSERT_TRUE(SetFromJson(spec, "thresholds", "[0.5]").ok());
  const absl::Status status =
      SetFromJson(spec, "thresholds", "[0.25, \"high\"]");
  EXPECT_EQ(GetErrorDetails(status).fields.at(0).field, "spec.thresholds");
  EXPECT_THAT(std::string(status.message()), HasSubstr("list of double"));
  EXPECT_THAT(std::get<spec::ActivationStatisticsSpec>(spec).thresholds,
              ElementsAre(0.5));
}

struct Refusal {
  const char* name;
  const char* json;
};
void PrintTo(const Refusal& refusal, std::ostream* out) {
  *out << refusal.name << "=" << refusal.json;
}

class SetFromJsonRefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(SetFromJsonRefusalTest, NamesTheField) {
  spec::AnalysisSpec spec = Activation();
  const absl::Status status =
      SetFromJson(spec, GetParam().name, GetParam().json);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(GetErrorDetails(status).fields.size(), 1U);
  EXPECT_EQ(GetErrorDetails(status).fields[0].field,
            std::string("spec.") + GetParam().name);
}

INSTANTIATE_TEST_SUITE_P(
    Values, SetFromJsonRefusalTest,
    ::testing::Values(
        Refusal{"top_tokens", "two"}, Refusal{"top_tokens", "2.5"},
        Refusal{"top_tokens", "18446744073709551615"},
        Refusal{"top_tokens", "[1]"}, Refusal{"top_tokens", ""},
        Refusal{"thresholds", "{}"}, Refusal{"thresholds", "[[1]]"},
        Refusal{"layers", "0,3-5"}, Refusal{"input", "5"},
        Refusal{"input", "[1,[2]]"}, Refusal{"input", "[4294967296]"}));

}  // namespace
}  // namespace moescope::codec
