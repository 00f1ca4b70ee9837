#include "moescope/codec/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"

#include "moescope/base/error.h"

namespace moescope::codec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string FieldOf(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  return details.fields.empty() ? "" : details.fields[0].field;
}

TEST(InputMessageTest, ReadsTextAndTokens) {
  v1::Input message;
  message.set_sequence_tokens(128);
  message.add_documents()->set_text("hello");
  message.mutable_documents(0)->set_label("prose");
  message.mutable_documents(0)->set_cut(true);
  message.add_documents()->mutable_tokens()->add_ids(7);

  const auto input = InputFromMessage(message);

  ASSERT_TRUE(input.ok()) << input.status();
  EXPECT_EQ(input->sequence_tokens, 128);
  ASSERT_EQ(input->documents.size(), 2U);
  EXPECT_EQ(input->documents[0].text, "hello");
  EXPECT_EQ(input->documents[0].label, "prose");
  EXPECT_TRUE(input->documents[0].cut);
  EXPECT_FALSE(input->documents[1].text.has_value());
  EXPECT_THAT(*input->documents[1].tokens, ElementsAre(7));
}

TEST(InputMessageTest, WritesWhatItReads) {
  spec::DocumentInput input;
  input.sequence_tokens = 64;
  input.documents.resize(2);
  input.documents[0].text = "a";
  input.documents[1].tokens = {1, 2};
  const v1::Input message = ToMessage(input);
  EXPECT_EQ(message.sequence_tokens(), 64);
  EXPECT_EQ(message.documents(0).text(), "a");
  EXPECT_THAT(message.documents(1).tokens().ids(), ElementsAre(1, 2));
}

TEST(InputMessageTest, NamesTheDocumentThatIsWrong) {
  v1::Input message;
  EXPECT_EQ(FieldOf(InputFromMessage(message).status()), "input.documents");
  message.add_documents()->set_text("fine");
  message.add_documents()->set_text("");
  const absl::Status empty_text = InputFromMessage(message).status();
  EXPECT_EQ(empty_text.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(empty_text), "input.documents[1]");
  EXPECT_THAT(std::string(empty_text.message()), HasSubstr("text is empty"));
  message.mutable_documents(1)->clear_content();
  EXPECT_THAT(std::string(InputFromMessage(message).status().message()),
              HasSubstr("neither text nor tokens"));
  message.mutable_documents(1)->mutable_tokens();
  EXPECT_THAT(std::string(InputFromMessage(message).status().message()),
              HasSubstr("tokens are empty"));
}

TEST(InputMessageTest, ASequenceNeedsTwoTokens) {
  v1::Input message;
  message.add_documents()->set_text("fine");
  message.set_sequence_tokens(1);
  EXPECT_EQ(FieldOf(InputFromMessage(message).status()),
            "input.sequence_tokens");
  message.set_sequence_tokens(-1);
  EXPECT_EQ(FieldOf(InputFromMessage(message).status()),
            "input.sequence_tokens");
}

TEST(ArrayMessageTest, AnUnknownDataTypeIsDataLoss) {
  v1::Array message;
  message.set_name("a");
  message.set_dtype(static_cast<v1::DataType>(99));
  const absl::Status status = ArrayFromMessage(message).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("99"));
}

TEST(ArrayMessageTest, AShapeThatOverflowsIsDataLoss) {
  v1::Array message;
  message.set_name("a");
  message.set_dtype(v1::DATA_TYPE_FLOAT64);
  message.add_shape(std::numeric_limits<std::int64_t>::max());
  message.add_shape(2);
  EXPECT_EQ(ArrayFromMessage(message).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(ArrayMessageTest, KeepsNonFiniteValues) {
  const spec::Array array =
      spec::MakeScalar("nan", std::numeric_limits<double>::quiet_NaN());
  const auto back = ArrayFromMessage(ToMessage(array));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->bytes, array.bytes);
}

TEST(ProvenanceMessageTest, AnUnfinishedResultHasNoEnd) {
  spec::Provenance provenance;
  provenance.started = absl::FromUnixSeconds(10);
  const v1::Provenance message = ToMessage(provenance);
  EXPECT_FALSE(message.has_end_time());
  EXPECT_EQ(message.start_time().seconds(), 10);
  EXPECT_EQ(ProvenanceFromMessage(message).finished, absl::UnixEpoch());
}

TEST(AnalysisInfoMessageTest, ReadsBackWhatItWrote) {
  spec::AnalysisInfo info;
  info.name = "routing_trace";
  info.version = 2;
  info.summary = "s";
  info.definition = "d";
  info.source = "p";
  info.needs_tokens = true;
  info.needs_forward = true;
  info.needs_moe = false;
  info.parameters = {{"layers", "list of int64", "[]", "m"}};
  info.schema.arrays = {
      {"layer.{layer}.margin", spec::DType::kFloat64, {"T"}, "1", "n"}};

  const spec::AnalysisInfo back = AnalysisInfoFromMessage(ToMessage(info));

  EXPECT_EQ(back.name, "routing_trace");
  EXPECT_EQ(back.version, 2);
  EXPECT_EQ(back.summary, "s");
  EXPECT_EQ(back.definition, "d");
  EXPECT_EQ(back.source, "p");
  EXPECT_TRUE(back.needs_tokens);
  EXPECT_TRUE(back.needs_forward);
  EXPECT_FALSE(back.needs_moe);
  ASSERT_EQ(back.parameters.size(), 1U);
  EXPECT_EQ(back.parameters[0].type, "list of int64");
  EXPECT_EQ(back.parameters[0].default_value, "[]");
  ASSERT_EQ(back.schema.arrays.size(), 1U);
  EXPECT_EQ(back.schema.arrays[0].pattern, "layer.{layer}.margin");
  EXPECT_EQ(back.schema.arrays[0].dtype, spec::DType::kFloat64);
  EXPECT_THAT(back.schema.arrays[0].shape, ElementsAre("T"));
}

}  // namespace
}  // namespace moescope::codec
