#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "moescope/codec/messages.h"

namespace moescope::codec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

spec::ExpertSimilaritySpec Similarity() {
  spec::ExpertSimilaritySpec spec;
  spec.model = "tiny";
  spec.layers = {2, 10};
  spec.levels = {"matrix", "router"};
  spec.projections = {"gate_proj", "down_proj"};
  spec.participants = {"0", "1", "S"};
  return spec;
}

spec::Array Square(std::string name, std::int64_t n) {
  const std::vector<float> values(static_cast<std::size_t>(n * n), 0.5F);
  return spec::MakeArray(std::move(name), {n, n}, absl::MakeConstSpan(values));
}

TEST(FoldExpertSimilarityTest, PutsMatricesInOrderUnderTheirLayers) {
  const auto response = FoldExpertSimilarity(
      Similarity(),
      {{{Square("layer.10.router", 2)}},
       {{Square("layer.2.down_proj.matrix", 3),
         Square("layer.2.gate_proj.matrix", 3), Square("layer.2.router", 2)}}});
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->layers_size(), 2);
  EXPECT_EQ(response->layers(0).layer(), 2);
  ASSERT_EQ(response->layers(0).matrices_size(), 3);
  const v1::SimilarityMatrix& first = response->layers(0).matrices(0);
  EXPECT_EQ(first.level(), "matrix");
  EXPECT_EQ(first.projection(), "gate_proj");
  EXPECT_EQ(first.values().name(), "layer.2.gate_proj.matrix");
  EXPECT_THAT(first.values().shape(), ElementsAre(3, 3));
  EXPECT_THAT(first.participants(), ElementsAre("0", "1", "S"));
  const v1::SimilarityMatrix& last = response->layers(0).matrices(2);
  EXPECT_EQ(last.level(), "router");
  EXPECT_EQ(last.projection(), "");
  EXPECT_THAT(last.participants(), ElementsAre("0", "1"));
  EXPECT_EQ(response->layers(1).layer(), 10);
  EXPECT_FALSE(response->too_large());
}

TEST(FoldExpertSimilarityTest, ASmallerMatrixIsOfRoutedExperts) {
  const auto response = FoldExpertSimilarity(
      Similarity(), {{{Square("layer.2.gate_proj.matrix", 2)}}});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_THAT(response->layers(0).matrices(0).participants(),
              ElementsAre("0", "1"));
}

TEST(FoldExpertSimilarityTest, BelievesTheResultOnWhoTakesPart) {
  spec::ExpertSimilaritySpec spec = Similarity();
  spec.participants = {"0", "1", "S", "F"};
  const std::vector<std::int64_t> who = {0, 1, spec::kBaselineParticipant};
  const auto response = FoldExpertSimilarity(
      spec, {{{Square("layer.2.gate_proj.matrix", 3),
               spec::MakeArray("layer.2.matrix_participants", {3},
                               absl::MakeConstSpan(who))}}});
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->layers(0).matrices_size(), 1);
  EXPECT_THAT(response->layers(0).matrices(0).participants(),
              ElementsAre("0", "1", "F"));
}

TEST(FoldExpertSimilarityTest, DoesNotGuessWhoTakesPart) {
  spec::ExpertSimilaritySpec spec = Similarity();
  spec.participants = {"0", "1", "S", "F"};
  const absl::Status status =
      FoldExpertSimilarity(spec, {{{Square("layer.2.gate_proj.matrix", 3)}}})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("layer.2.gate_proj.matrix"));
}

TEST(FoldExpertSimilarityTest, AnArrayWithoutAPlaceIsOurBug) {
  const absl::Status inside =
      FoldExpertSimilarity(Similarity(), {{{Square("layer.2.other", 2)}}})
          .status();
  EXPECT_EQ(inside.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(inside.message()), HasSubstr("layer.2.other"));
  const absl::Status outside =
      FoldExpertSimilarity(Similarity(), {{{Square("total", 2)}}}).status();
  EXPECT_THAT(std::string(outside.message()), HasSubstr("\"total\""));
}

TEST(FoldExpertSimilarityTest, ALargeResultIsLeftToBeStreamed) {
  const auto response = FoldExpertSimilarity(
      Similarity(), {{{Square("layer.2.gate_proj.matrix", 900)}}});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(response->too_large());
  EXPECT_EQ(response->layers_size(), 0);
}

TEST(FoldExpertSimilarityTest, WhatFitsStaysBelowTheLimit) {
  spec::ExpertSimilaritySpec spec = Similarity();
  spec.participants.assign(870, "0");
  const auto response =
      FoldExpertSimilarity(spec, {{{Square("layer.2.gate_proj.matrix", 870)}}});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_FALSE(response->too_large());
  EXPECT_LT(static_cast<std::int64_t>(response->ByteSizeLong()),
            kMaxUnaryReplyBytes - (60 << 10));
}

TEST(FoldNeuronStatisticsTest, JoinsBothAnalysesByLayer) {
  spec::NeuronWeightStatisticsSpec spec;
  spec.participants = {"0", "1"};
  const auto response =
      FoldNeuronStatistics(spec,
                           {{{Square("layer.1.up_proj.norms", 2)}},
                            {{Square("layer.3.up_proj.norms", 2)}}},
                           {{{Square("layer.3.fraction", 1)}}});
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->layers_size(), 2);
  EXPECT_THAT(response->layers(0).participants(), ElementsAre("0", "1"));
  EXPECT_EQ(response->layers(0).weights(0).name(), "layer.1.up_proj.norms");
  EXPECT_EQ(response->layers(0).activations_size(), 0);
  ASSERT_EQ(response->layers(1).activations_size(), 1);
  EXPECT_EQ(response->layers(1).activations(0).name(), "layer.3.fraction");
}

TEST(FoldNeuronStatisticsTest, PartsOfAnArrayAreJoined) {
  spec::NeuronWeightStatisticsSpec spec;
  spec.participants = {"0", "1", "2", "3"};
  const auto response =
      FoldNeuronStatistics(spec,
                           {{{Square("layer.1.up_proj.norms", 2)}},
                            {{Square("layer.1.up_proj.norms", 2)}}},
                           {});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_THAT(response->layers(0).weights(0).shape(), ElementsAre(4, 2));
}

TEST(FoldNeuronStatisticsTest, ActivationsOfAnotherLayerAreOurBug) {
  const absl::Status status =
      FoldNeuronStatistics({}, {}, {{{Square("layer.3.fraction", 1)}}})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 3"));
}

}  // namespace
}  // namespace moescope::codec
