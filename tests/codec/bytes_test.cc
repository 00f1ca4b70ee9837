#include "moescope/codec/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"

#include "moescope/codec/messages.h"

namespace moescope::codec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

spec::RoutingTraceSpec Trace() {
  spec::RoutingTraceSpec spec;
  spec.model = "tiny";
  spec.input = {{1, 2, 3}, {2, 1}, {}};
  spec.layers = {0, 2};
  spec.fields = {"ids"};
  return spec;
}

spec::NeuronWeightStatisticsSpec Weights() {
  spec::NeuronWeightStatisticsSpec spec;
  spec.model = "tiny";
  spec.layers = {1};
  spec.projections = {"up_proj"};
  spec.participants = {"0", "F"};
  spec.baseline = "dense";
  spec.quantiles = {0.5};
  return spec;
}

// Whoever changes these bytes gives every cached result another key.
TEST(CanonicalBytesTest, OfARoutingTraceAreGolden) {
  EXPECT_EQ(absl::BytesToHexString(CanonicalBytes(Trace())),
            "0d00000000000000726f7574696e675f74726163650100000000000000050000"
            "000000000005000000000000006d6f64656c6d010500000000000000696e7075"
            "7474400000000000000064646535336261356334636633303664316230353966"
            "3935303038313836376664373866646537383037633938376330666166323666"
            "3763623133356533663606000000000000006c61796572734902000000000000"
            "000000000000000000020000000000000006000000000000006669656c647353"
            "010000000000000003000000000000006964730c00000000000000626c6f636b"
            "5f746f6b656e73690020000000000000");
}

// A field of a later release: the default leaves the golden bytes as they are.
TEST(CanonicalBytesTest, HoldTheConventionForMaskedGroupsWhereItIsAskedFor) {
  spec::RoutingTraceSpec zero = Trace();
  zero.masked_groups = "zero";
  spec::RoutingTraceSpec lowest = Trace();
  lowest.masked_groups = "negative_infinity";
  EXPECT_NE(CanonicalBytes(zero), CanonicalBytes(Trace()));
  EXPECT_NE(CanonicalBytes(lowest), CanonicalBytes(Trace()));
  EXPECT_NE(CanonicalBytes(lowest), CanonicalBytes(zero));
  EXPECT_THAT(CanonicalBytes(zero), HasSubstr("masked_groups"));
}

TEST(CanonicalBytesTest, OfWeightStatisticsAreGolden) {
  EXPECT_EQ(absl::BytesToHexString(CanonicalBytes(Weights())),
            "18000000000000006e6575726f6e5f7765696768745f73746174697374696373"
            "0100000000000000080000000000000005000000000000006d6f64656c6d0106"
            "000000000000006c617965727349010000000000000001000000000000000b00"
            "00000000000070726f6a656374696f6e73530100000000000000070000000000"
            "000075705f70726f6a0c000000000000007061727469636970616e7473530200"
            "0000000000000100000000000000300100000000000000460e00000000000000"
            "696e636c7564655f73686172656462000800000000000000626173656c696e65"
            "6d0109000000000000007175616e74696c657344010000000000000000000000"
            "0000e03f0e000000000000006566666563746976655f72616e6b6201");
}

TEST(CanonicalBytesTest, NameNoModels) {
  spec::NeuronWeightStatisticsSpec other = Weights();
  other.model = "elsewhere/tiny";
  other.baseline = "elsewhere/dense";
  EXPECT_EQ(CanonicalBytes(other), CanonicalBytes(Weights()));
}

TEST(CanonicalBytesTest, KnowWhetherThereIsABaseline) {
  spec::NeuronWeightStatisticsSpec other = Weights();
  other.baseline.clear();
  EXPECT_NE(CanonicalBytes(other), CanonicalBytes(Weights()));
}

TEST(CanonicalBytesTest, DifferByEveryTokenAndSequence) {
  spec::RoutingTraceSpec token = Trace();
  token.input.ids[2] = 4;
  spec::RoutingTraceSpec sequence = Trace();
  sequence.input.lengths = {1, 2};
  spec::RoutingTraceSpec label = Trace();
  label.input.labels = {"a", "b"};
  EXPECT_NE(CanonicalBytes(token), CanonicalBytes(Trace()));
  EXPECT_NE(CanonicalBytes(sequence), CanonicalBytes(Trace()));
  EXPECT_NE(CanonicalBytes(label), CanonicalBytes(Trace()));
}

TEST(CanonicalBytesTest, WordsDoNotRunIntoEachOther) {
  spec::RoutingTraceSpec two = Trace();
  two.fields = {"a", "b"};
  spec::RoutingTraceSpec one = Trace();
  one.fields = {"ab"};
  EXPECT_NE(CanonicalBytes(two), CanonicalBytes(one));
}

TEST(CanonicalBytesTest, MinusZeroIsZero) {
  spec::NeuronWeightStatisticsSpec plus = Weights();
  plus.quantiles = {0.0};
  spec::NeuronWeightStatisticsSpec minus = Weights();
  minus.quantiles = {-0.0};
  EXPECT_EQ(CanonicalBytes(minus), CanonicalBytes(plus));
}

TEST(SpecBytesTest, ReadBackWithTokensAndModels) {
  const auto decoded = DecodeSpec(EncodeSpec(Trace()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const auto& trace = std::get<spec::RoutingTraceSpec>(*decoded);
  EXPECT_EQ(trace.model, "tiny");
  EXPECT_THAT(trace.input.ids, ElementsAre(1, 2, 3));
  EXPECT_THAT(trace.input.lengths, ElementsAre(2, 1));
  EXPECT_EQ(CanonicalBytes(*decoded), CanonicalBytes(Trace()));
}

// Jobs that an earlier release stored go on.
TEST(SpecBytesTest, WithoutAFieldOfALaterReleaseHaveItsDefault) {
  v1::AnalysisSpec stored = ToMessage(Trace());
  stored.mutable_routing_trace()->clear_masked_groups();
  const auto decoded = DecodeSpec(stored.SerializeAsString());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(std::get<spec::RoutingTraceSpec>(*decoded).masked_groups, "model");
  EXPECT_EQ(CanonicalBytes(*decoded), CanonicalBytes(Trace()));
}

TEST(SpecBytesTest, KeepWhatIsNotTheDefault) {
  spec::NeuronWeightStatisticsSpec spec = Weights();
  spec.quantiles.clear();
  spec.effective_rank = false;
  const auto decoded = DecodeSpec(EncodeSpec(spec));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const auto& weights = std::get<spec::NeuronWeightStatisticsSpec>(*decoded);
  EXPECT_TRUE(weights.quantiles.empty());
  EXPECT_FALSE(weights.effective_rank);
}

TEST(SpecBytesTest, MalformedOnesAreDataLoss) {
  const absl::Status garbage = DecodeSpec("\xff\xff\xff").status();
  EXPECT_EQ(garbage.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(garbage.message()), HasSubstr("stored spec"));
  const absl::Status empty = DecodeSpec("").status();
  EXPECT_EQ(empty.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(empty.message()), HasSubstr("no analysis"));
}

TEST(SpecBytesTest, FieldsOfANewerVersionAreRefused) {
  // Field 1 (routing_trace) with an unknown field 100 inside.
  const absl::Status status =
      DecodeSpec(std::string("\x0a\x03\xa0\x06\x01", 5)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("does not know"));
}

spec::Chunk TwoArrays() {
  const std::vector<float> values = {1.0F, 2.0F};
  return {{spec::MakeArray("a", {2}, absl::MakeConstSpan(values)),
           spec::MakeCount("n", 7)}};
}

// Logs written by one version are read by the next.
TEST(ChunkBytesTest, AreGolden) {
  EXPECT_EQ(absl::BytesToHexString(EncodeChunk(TwoArrays())),
            "0a120a016110011a010222080000803f000000400a0f0a016e10032208070000"
            "0000000000");
}

TEST(ChunkBytesTest, ReadBackArraysOfEveryKind) {
  const auto decoded = DecodeChunk(EncodeChunk(TwoArrays()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ASSERT_EQ(decoded->arrays.size(), 2U);
  EXPECT_EQ(decoded->arrays[0].dtype, spec::DType::kFloat32);
  EXPECT_THAT(decoded->arrays[0].shape, ElementsAre(2));
  EXPECT_EQ(decoded->arrays[0].bytes, TwoArrays().arrays[0].bytes);
  EXPECT_TRUE(decoded->arrays[1].shape.empty());
  EXPECT_THAT(*spec::ToInt64s(decoded->arrays[1]), ElementsAre(7));
}

TEST(ChunkBytesTest, ReadBackNothing) {
  const auto decoded = DecodeChunk(EncodeChunk({}));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_TRUE(decoded->arrays.empty());
}

TEST(ChunkBytesTest, BytesThatDoNotFillTheShapeAreDataLoss) {
  spec::Chunk chunk = TwoArrays();
  chunk.arrays[0].shape = {3};
  const absl::Status status = DecodeChunk(EncodeChunk(chunk)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a: 8 bytes"));
}

TEST(ChunkBytesTest, TruncatedOnesAreDataLoss) {
  std::string bytes = EncodeChunk(TwoArrays());
  bytes.pop_back();
  EXPECT_EQ(DecodeChunk(bytes).status().code(), absl::StatusCode::kDataLoss);
}

TEST(ProvenanceBytesTest, ReadBackEverything) {
  spec::Provenance provenance;
  provenance.analysis = "routing_trace";
  provenance.analysis_version = 3;
  provenance.models = {"a", "b"};
  provenance.model_identities = {"x", "y"};
  provenance.spec_json = "{}";
  provenance.tokens_digest = "00";
  provenance.numerics_class = "cpu";
  provenance.routing = "softmax over 8";
  provenance.versions = {{"torch", "1.13"}, {"moescope", "0.1"}};
  provenance.started = absl::FromUnixNanos(1'700'000'000'000'000'001);
  provenance.finished = absl::FromUnixNanos(1'700'000'001'000'000'002);

  const auto decoded = DecodeProvenance(EncodeProvenance(provenance));

  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->analysis, "routing_trace");
  EXPECT_EQ(decoded->analysis_version, 3);
  EXPECT_THAT(decoded->models, ElementsAre("a", "b"));
  EXPECT_THAT(decoded->model_identities, ElementsAre("x", "y"));
  EXPECT_EQ(decoded->spec_json, "{}");
  EXPECT_EQ(decoded->tokens_digest, "00");
  EXPECT_EQ(decoded->numerics_class, "cpu");
  EXPECT_EQ(decoded->routing, "softmax over 8");
  EXPECT_EQ(decoded->versions, provenance.versions);
  EXPECT_EQ(decoded->started, provenance.started);
  EXPECT_EQ(decoded->finished, provenance.finished);
}

TEST(ProvenanceBytesTest, MalformedOnesAreDataLoss) {
  EXPECT_EQ(DecodeProvenance("\xff").status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace moescope::codec
