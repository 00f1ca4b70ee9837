#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "moescope/base/error.h"
#include "moescope/spec/analysis_spec.h"

namespace moescope::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelFacts Moe() {
  ModelFacts facts;
  facts.name = "moe";
  facts.moe_layers = {1, 2, 3};
  facts.num_layers = 4;
  facts.num_experts = 3;
  facts.width = 8;
  facts.vocab_size = 100;
  facts.max_positions = 16;
  return facts;
}

ModelFacts Dense() {
  ModelFacts facts = Moe();
  facts.name = "dense";
  facts.moe_layers.clear();
  facts.num_experts = 0;
  facts.is_dense = true;
  return facts;
}

template <typename Spec>
absl::Status Normalised(Spec& spec, const ModelFacts& model = Moe(),
                 const ModelFacts* baseline = nullptr, SpecLimits limits = {}) {
  AnalysisSpec any = spec;
  const absl::Status status = Normalise(model, baseline, limits, any);
  spec = std::get<Spec>(any);
  return status;
}

RoutingTraceSpec Trace() {
  RoutingTraceSpec spec;
  spec.model = "moe";
  spec.input = {{1, 2, 3}, {2, 1}, {}};
  return spec;
}

std::string FieldOf(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  return details.fields.empty() ? "" : details.fields[0].field;
}

TEST(NormaliseTest, EmptyListsBecomeExplicit) {
  RoutingTraceSpec spec = Trace();
  ASSERT_TRUE(Normalised(spec).ok());
  EXPECT_THAT(spec.layers, ElementsAre(1, 2, 3));
  EXPECT_THAT(spec.fields, ElementsAre("ids", "weights", "logits"));
}

TEST(NormaliseTest, ListsAreSortedAndWithoutRepeats) {
  RoutingTraceSpec spec = Trace();
  spec.layers = {3, 1, 3};
  spec.fields = {"margin", "ids", "margin"};
  ASSERT_TRUE(Normalised(spec).ok());
  EXPECT_THAT(spec.layers, ElementsAre(1, 3));
  EXPECT_THAT(spec.fields, ElementsAre("ids", "margin"));
}

TEST(NormaliseTest, ALayerBeyondTheModelIsOutOfRange) {
  RoutingTraceSpec spec = Trace();
  spec.layers = {4};
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(FieldOf(status), "spec.layers");
  EXPECT_EQ(GetErrorDetails(status).reason, "LAYER_OUT_OF_RANGE");
}

TEST(NormaliseTest, ALayerWithoutARouterDoesNotFit) {
  RoutingTraceSpec spec = Trace();
  spec.layers = {0};
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(status).reason, "ANALYSIS_DOES_NOT_FIT");
  EXPECT_EQ(FieldOf(status), "spec.layers");
  EXPECT_THAT(std::string(status.message()), HasSubstr("MoE layers 1,2,3"));
}

TEST(NormaliseTest, AnUnknownFieldListsTheKnownOnes) {
  RoutingTraceSpec spec = Trace();
  spec.fields = {"gates"};
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "spec.fields");
  EXPECT_THAT(std::string(status.message()), HasSubstr("ids, weights, logits"));
}

TEST(NormaliseTest, AnEmptyInputIsInvalid) {
  RoutingTraceSpec spec = Trace();
  spec.input = {};
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "spec.input");
}

TEST(NormaliseTest, TooManyTokensSayTheLimit) {
  RoutingTraceSpec spec = Trace();
  SpecLimits limits;
  limits.max_tokens = 2;
  const absl::Status status = Normalised(spec, Moe(), nullptr, limits);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetails(status).reason, "TOKEN_LIMIT");
  EXPECT_EQ(GetErrorDetails(status).metadata.at("limit"), "2");
}

TEST(NormaliseTest, ATokenBeyondTheVocabularyIsOutOfRange) {
  RoutingTraceSpec spec = Trace();
  spec.input.ids[1] = 100;
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("token id 100 is outside [0, 99]"));
}

TEST(NormaliseTest, ASequenceLongerThanThePositionsIsOutOfRange) {
  RoutingTraceSpec spec = Trace();
  spec.input = {std::vector<std::int32_t>(17, 1), {17}, {}};
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), HasSubstr("17 tokens"));
}

TEST(NormaliseTest, EmptyLabelsMakeNoOtherKey) {
  RoutingTraceSpec spec = Trace();
  spec.input.labels = {"", ""};
  ASSERT_TRUE(Normalised(spec).ok());
  EXPECT_EQ(TokensDigest(spec.input), TokensDigest(Trace().input));
}

TEST(NormaliseTest, SharedShareNeedsSharedExperts) {
  RoutingTraceSpec spec = Trace();
  spec.fields = {"shared_share"};
  EXPECT_EQ(Normalised(spec).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(NormaliseTest, ChoiceNeedsARouterCorrection) {
  RoutingTraceSpec spec = Trace();
  spec.fields = {"choice"};
  EXPECT_EQ(Normalised(spec).code(), absl::StatusCode::kFailedPrecondition);
  ModelFacts corrected = Moe();
  corrected.has_router_correction = true;
  EXPECT_EQ(Normalised(spec, corrected), absl::OkStatus());
}

TEST(NormaliseTest, AGroupMaskNeedsGroups) {
  RoutingTraceSpec spec = Trace();
  spec.fields = {"group_mask", "ids"};
  EXPECT_EQ(Normalised(spec).code(), absl::StatusCode::kFailedPrecondition);
  ModelFacts grouped = Moe();
  grouped.has_router_groups = true;
  ASSERT_EQ(Normalised(spec, grouped), absl::OkStatus());
  EXPECT_THAT(spec.fields, ElementsAre("ids", "group_mask"));
}

ModelFacts Grouped(bool masked_groups_are_zero) {
  ModelFacts facts = Moe();
  facts.has_router_groups = true;
  facts.masked_groups_are_zero = masked_groups_are_zero;
  return facts;
}

std::string MaskedGroups(const std::string& asked, const ModelFacts& model) {
  RoutingTraceSpec spec = Trace();
  spec.masked_groups = asked;
  const absl::Status status = Normalised(spec, model);
  return status.ok() ? spec.masked_groups : std::string(status.message());
}

TEST(NormaliseTest, TheModelsOwnConventionForMaskedGroupsHasOneName) {
  EXPECT_EQ(MaskedGroups("zero", Grouped(true)), "model");
  EXPECT_EQ(MaskedGroups("negative_infinity", Grouped(true)),
            "negative_infinity");
  EXPECT_EQ(MaskedGroups("zero", Grouped(false)), "zero");
  EXPECT_EQ(MaskedGroups("negative_infinity", Grouped(false)), "model");
  EXPECT_EQ(MaskedGroups("model", Grouped(false)), "model");
  EXPECT_EQ(MaskedGroups("model", Moe()), "model");
}

TEST(NormaliseTest, AnotherConventionForMaskedGroupsNeedsGroups) {
  RoutingTraceSpec spec = Trace();
  spec.masked_groups = "zero";
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "spec.masked_groups");
  EXPECT_THAT(std::string(status.message()), HasSubstr("no groups of experts"));
}

TEST(NormaliseTest, AnUnknownConventionForMaskedGroupsListsTheKnownOnes) {
  RoutingTraceSpec spec = Trace();
  spec.masked_groups = "7";
  const absl::Status status = Normalised(spec, Grouped(true));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "spec.masked_groups");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model, zero, negative_infinity"));
}

TEST(NormaliseTest, FieldsOfAnAttentionRouterNeedOne) {
  RoutingTraceSpec spec = Trace();
  spec.fields = {"attention_margin", "attention_ids"};
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("has no router in its attention"));
  ModelFacts mixture = Moe();
  mixture.has_attention_router = true;
  ASSERT_EQ(Normalised(spec, mixture), absl::OkStatus());
  EXPECT_THAT(spec.fields, ElementsAre("attention_ids", "attention_margin"));
}

TEST(NormaliseTest, ADenseModelHasNoRouting) {
  RoutingTraceSpec spec = Trace();
  const absl::Status status = Normalised(spec, Dense());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(status).reason, "ANALYSIS_DOES_NOT_FIT");
}

TEST(NormaliseTest, ParticipantsAreExpandedInOrder) {
  ExpertSimilaritySpec spec;
  spec.baseline = "dense";
  const ModelFacts dense = Dense();
  ASSERT_TRUE(Normalised(spec, Moe(), &dense).ok());
  EXPECT_THAT(spec.participants, ElementsAre("0", "1", "2", "F"));
  EXPECT_EQ(spec.baseline, "dense");
}

TEST(NormaliseTest, ABaselineThatTakesNoPartLeavesTheKey) {
  ExpertSimilaritySpec spec;
  spec.baseline = "dense";
  spec.participants = {"2", "0"};
  const ModelFacts dense = Dense();
  ASSERT_TRUE(Normalised(spec, Moe(), &dense).ok());
  EXPECT_THAT(spec.participants, ElementsAre("0", "2"));
  EXPECT_EQ(spec.baseline, "");
}

TEST(NormaliseTest, ParticipantsMustExist) {
  ExpertSimilaritySpec spec;
  spec.participants = {"3"};
  EXPECT_EQ(Normalised(spec).code(), absl::StatusCode::kOutOfRange);
  spec.participants = {"S"};
  EXPECT_EQ(Normalised(spec).code(), absl::StatusCode::kFailedPrecondition);
  spec.participants = {"F"};
  EXPECT_EQ(Normalised(spec).code(), absl::StatusCode::kInvalidArgument);
  spec.participants = {"01"};
  EXPECT_EQ(FieldOf(Normalised(spec)), "spec.participants");
}

TEST(NormaliseTest, ABaselineMustBeDenseAndAsWide) {
  ExpertSimilaritySpec spec;
  spec.baseline = "dense";
  ModelFacts wide = Dense();
  wide.width = 9;
  const absl::Status status = Normalised(spec, Moe(), &wide);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(FieldOf(status), "spec.baseline");
}

TEST(NormaliseTest, ThresholdsMustRise) {
  ActivationStatisticsSpec spec;
  spec.input = Trace().input;
  spec.thresholds = {0.1, 0.1};
  EXPECT_EQ(FieldOf(Normalised(spec)), "spec.thresholds");
  spec.thresholds = {std::numeric_limits<double>::quiet_NaN()};
  EXPECT_EQ(FieldOf(Normalised(spec)), "spec.thresholds");
}

TEST(NormaliseTest, NeuronLayersAreAmongTheLayers) {
  ActivationStatisticsSpec spec;
  spec.input = Trace().input;
  spec.layers = {1, 2};
  spec.neuron_layers = {3};
  const absl::Status status = Normalised(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "spec.neuron_layers");
}

TEST(NormaliseTest, AHistogramIsLowHighEdges) {
  ActivationStatisticsSpec spec;
  spec.input = Trace().input;
  spec.histogram = {-0.5, 3.5, 65};
  EXPECT_TRUE(Normalised(spec).ok());
  spec.histogram = {1, 0, 65};
  EXPECT_EQ(FieldOf(Normalised(spec)), "spec.histogram");
}

TEST(DefaultSpecTest, AnUnknownAnalysisListsTheKnownOnes) {
  const auto spec = DefaultSpec("astrology");
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(spec.status().message()),
              HasSubstr("routing_trace, expert_similarity"));
}

TEST(NormaliseMatchingTest, TakesAllPairsWhenNoneIsNamed) {
  NeuronMatchingSpec spec;
  spec.model = "moe";

  ASSERT_TRUE(Normalised(spec).ok());

  EXPECT_THAT(spec.projections,
              ElementsAre("gate_proj", "up_proj", "down_proj", "joint"));
  EXPECT_THAT(spec.pairs, ElementsAre(0, 1, 0, 2, 1, 2));
}

TEST(NormaliseNeuronWeightsTest, RefusesMoreQuantilesThanOneTableHolds) {
  NeuronWeightStatisticsSpec spec;
  spec.quantiles.assign(1025, 0.5);
  EXPECT_EQ(FieldOf(Normalised(spec)), "spec.quantiles");
}

TEST(NormaliseMatchingTest, RefusesWhatMakesNoPairsOfParticipants) {
  NeuronMatchingSpec alone;
  alone.participants = {"1"};
  EXPECT_EQ(FieldOf(Normalised(alone)), "spec.participants");

  NeuronMatchingSpec odd;
  odd.pairs = {0, 1, 2};
  EXPECT_EQ(FieldOf(Normalised(odd)), "spec.pairs");

  NeuronMatchingSpec repeated;
  repeated.pairs.assign(20, 1);
  EXPECT_EQ(FieldOf(Normalised(repeated)), "spec.pairs");

  NeuronMatchingSpec beyond;
  beyond.pairs = {0, 3};
  const absl::Status status = Normalised(beyond);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(FieldOf(status), "spec.pairs");
}

// Shared experts and a baseline of other widths than a routed expert's.
ModelFacts Narrow() {
  ModelFacts facts = Moe();
  facts.has_shared_experts = true;
  facts.expert_width = 4;
  facts.shared_width = 8;
  return facts;
}

ModelFacts WideDense() {
  ModelFacts facts = Dense();
  facts.dense_width = 16;
  return facts;
}

TEST(NormaliseMatchingTest, LeavesOutWhatHasAnotherWidthAndItsKey) {
  NeuronMatchingSpec spec;
  spec.include_shared = true;
  spec.baseline = "dense";
  const ModelFacts dense = WideDense();
  ASSERT_EQ(Normalised(spec, Narrow(), &dense), absl::OkStatus());
  EXPECT_THAT(spec.participants, ElementsAre("0", "1", "2"));
  EXPECT_FALSE(spec.include_shared);
  EXPECT_EQ(spec.baseline, "");
  EXPECT_THAT(spec.pairs, ElementsAre(0, 1, 0, 2, 1, 2));
}

TEST(NormaliseMatchingTest, KeepsWhatHasTheWidthOfAnExpert) {
  NeuronMatchingSpec spec;
  spec.include_shared = true;
  spec.baseline = "dense";
  ModelFacts model = Narrow();
  model.shared_width = 4;
  ModelFacts dense = WideDense();
  dense.dense_width = 4;
  ASSERT_EQ(Normalised(spec, model, &dense), absl::OkStatus());
  EXPECT_THAT(spec.participants, ElementsAre("0", "1", "2", "S", "F"));
  EXPECT_EQ(spec.baseline, "dense");
}

TEST(NormaliseMatchingTest, RefusesANamedParticipantOfAnotherWidth) {
  NeuronMatchingSpec spec;
  spec.participants = {"0", "S"};
  const absl::Status status = Normalised(spec, Narrow());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "spec.participants[1]");
  EXPECT_EQ(status.message(),
            "spec.participants[1]: \"S\" has 8 neurons, a routed expert of \"moe\" "
            "has 4");
}

TEST(NormaliseMatchingTest, RefusesPairsThatReachWhatWouldBeLeftOut) {
  NeuronMatchingSpec spec;
  spec.include_shared = true;
  spec.pairs = {0, 1, 0, 3};
  const absl::Status status = Normalised(spec, Narrow());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(FieldOf(status), "spec.participants");

  NeuronMatchingSpec short_of_it;
  short_of_it.include_shared = true;
  short_of_it.pairs = {0, 1};
  EXPECT_EQ(Normalised(short_of_it, Narrow()), absl::OkStatus());
}

TEST(NormaliseFittingTest, RefusesANamedParticipantWithoutAnExpertsShape) {
  MatrixPcaSpec components;
  components.participants = {"0", "1", "S"};
  const absl::Status status = Normalised(components, Narrow());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "spec.participants[2]");
  EXPECT_EQ(GetErrorDetails(status).reason, "ANALYSIS_DOES_NOT_FIT");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("\"S\" has 8 neurons, a routed expert of \"moe\" has "
                        "4: all matrices need an expert's shape"));

  NeuronWeightStatisticsSpec norms;
  norms.participants = {"S"};
  EXPECT_EQ(FieldOf(Normalised(norms, Narrow())), "spec.participants[0]");
}

TEST(NormaliseFittingTest, RefusesANamedBaselineWithoutAnExpertsShape) {
  NeuronWeightStatisticsSpec norms;
  norms.baseline = "dense";
  norms.participants = {"F", "1"};
  const ModelFacts dense = WideDense();
  const absl::Status status = Normalised(norms, Narrow(), &dense);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "spec.participants[0]");
}

TEST(NormaliseFittingTest, KeepsTheKeyOfDefaultsThatDoNotFit) {
  MatrixPcaSpec spec;
  spec.include_shared = true;
  spec.baseline = "dense";
  const ModelFacts dense = WideDense();
  ASSERT_EQ(Normalised(spec, Narrow(), &dense), absl::OkStatus());
  EXPECT_THAT(spec.participants, ElementsAre("0", "1", "2", "S", "F"));
  // As a client sends the Spec of an answer.
  EXPECT_EQ(Normalised(spec, Narrow(), &dense), absl::OkStatus());
  EXPECT_THAT(spec.participants, ElementsAre("0", "1", "2", "S", "F"));
}

TEST(NormaliseFittingTest, CountsOnlyThoseThatFit) {
  MatrixPcaSpec components;
  components.participants = {"0"};
  components.include_shared = true;
  const absl::Status status = Normalised(components, Narrow());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "spec.participants: 1 takes part; at least 2 are needed");

  ModelFacts wide = Narrow();
  wide.shared_width = 4;
  EXPECT_EQ(Normalised(components, wide), absl::OkStatus());
}

TEST(NormaliseFittingTest, SimilarityTakesWhomAnyLevelTakes) {
  ExpertSimilaritySpec spec;
  spec.participants = {"0", "S"};
  EXPECT_EQ(Normalised(spec, Narrow()), absl::OkStatus());

  ExpertSimilaritySpec matrix;
  matrix.levels = {"matrix", "router"};
  matrix.participants = {"0", "S"};
  const absl::Status status = Normalised(matrix, Narrow());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "spec.participants[1]: \"S\" has 8 neurons, a routed expert of "
            "\"moe\" has 4: no level in spec.levels takes it; neuron_average "
            "does");

  ExpertSimilaritySpec router;
  router.levels = {"router"};
  router.participants = {"S"};
  EXPECT_EQ(Normalised(router, Narrow()).message(),
            "spec.participants[0]: \"S\" is no routed expert: no level in "
            "spec.levels takes it; neuron_average does");
}

TEST(NormaliseTest, ASingleExpertIsTheModelsFaultUnlessItWasChosen) {
  ModelFacts single = Moe();
  single.num_experts = 1;
  MatrixPcaSpec components;
  NeuronMatchingSpec matching;
  EXPECT_EQ(Normalised(components, single).code(),
            absl::StatusCode::kFailedPrecondition);
  const absl::Status status = Normalised(matching, single);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(FieldOf(status), "spec.model");
  EXPECT_EQ(GetErrorDetails(status).reason, "ANALYSIS_DOES_NOT_FIT");

  MatrixPcaSpec chosen;
  chosen.participants = {"1"};
  EXPECT_EQ(Normalised(chosen).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(Normalised(chosen)), "spec.participants");
}

TEST(NormaliseMatchingTest, RefusesDrawsThatHaveNoDeviation) {
  for (const std::int64_t draws : {-1, 1, 1001}) {
    NeuronMatchingSpec spec;
    spec.null_draws = draws;
    EXPECT_EQ(FieldOf(Normalised(spec)), "spec.null_draws") << draws;
  }
  NeuronMatchingSpec none;
  none.null_draws = 0;
  EXPECT_TRUE(Normalised(none).ok());
  none.null_seed = -1;
  EXPECT_EQ(FieldOf(Normalised(none)), "spec.null_seed");
}

}  // namespace
}  // namespace moescope::spec
