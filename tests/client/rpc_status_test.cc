#include "client/lib/rpc_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

#include "moescope/base/error.h"

namespace moescope::client {
namespace {

std::string Details() {
  google::rpc::Status status;
  google::rpc::ErrorInfo info;
  info.set_reason("TOKEN_LIMIT");
  (*info.mutable_metadata())["limit"] = "1048576";
  status.add_details()->PackFrom(info);
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field("input");
  violation->set_description("too many tokens");
  status.add_details()->PackFrom(bad_request);
  return status.SerializeAsString();
}

TEST(StatusFromRpcTest, KeepsReasonFieldsAndFacts) {
  const absl::Status status = StatusFromRpc(8, "too much", Details());

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "TOKEN_LIMIT");
  ASSERT_EQ(details.fields.size(), 1u);
  EXPECT_EQ(details.fields[0].field, "input");
  EXPECT_EQ(details.metadata.at("limit"), "1048576");
}

TEST(StatusFromRpcTest, PassesOverBytesThatAreNoStatus) {
  EXPECT_EQ(StatusFromRpc(5, "gone", "\xff\xff").message(), "gone");
}

TEST(ErrorTextTest, NamesFieldReasonAndWhatToDo) {
  EXPECT_EQ(ErrorText(StatusFromRpc(8, "too much", Details())),
            "error: too much\n"
            "  input: too many tokens\n"
            "  RESOURCE_EXHAUSTED TOKEN_LIMIT limit=1048576\n"
            "  ask for less at once: waiting does not change the limit\n");
}

TEST(ErrorTextTest, AFullQueueIsWorthAnotherTry) {
  EXPECT_THAT(ErrorText(FieldError(absl::StatusCode::kResourceExhausted,
                                   "queue", "is full", "QUEUE_FULL")),
              ::testing::HasSubstr("  try again later, or ask for less\n"));
}

TEST(ErrorTextTest, DoesNotAdviseToChangeWhatAModelIs) {
  EXPECT_EQ(ErrorText(FieldError(absl::StatusCode::kFailedPrecondition,
                                 "spec.model", "\"m\" is dense",
                                 "ANALYSIS_DOES_NOT_FIT")),
            "error: spec.model: \"m\" is dense\n"
            "  FAILED_PRECONDITION ANALYSIS_DOES_NOT_FIT\n");
}

TEST(ErrorTextTest, AdvisesByReason) {
  EXPECT_THAT(
      ErrorText(FieldError(absl::StatusCode::kDataLoss, "model.safetensors",
                           "hash a, expected b", "CONTENT_CHANGED")),
      ::testing::HasSubstr("touch it where the change is meant"));
  EXPECT_THAT(ErrorText(FieldError(absl::StatusCode::kNotFound, "name",
                                   "is unknown or evicted",
                                   "RESULT_NOT_FOUND")),
              ::testing::HasSubstr("ask for it again"));
}

TEST(ErrorTextTest, NamesACodeOnce) {
  EXPECT_THAT(ErrorText(FieldError(absl::StatusCode::kDataLoss, "shard",
                                   "is cut short", "DATA_LOSS")),
              ::testing::HasSubstr("  DATA_LOSS\n"));
}

TEST(ErrorTextTest, SpeaksOfTokenIdsWhereATokenizerIsLackingOnly) {
  const std::string lacking = ErrorText(
      FieldError(absl::StatusCode::kUnimplemented, "input.text",
                 "the model's tokenizer can't be used", "NO_TOKENIZER"));
  const std::string other =
      ErrorText(absl::UnimplementedError("hidden_act: \"gelu\""));

  EXPECT_THAT(lacking, ::testing::HasSubstr("--tokens"));
  EXPECT_THAT(other, ::testing::Not(::testing::HasSubstr("--tokens")));
  EXPECT_THAT(other, ::testing::HasSubstr("does not support"));
}

TEST(ErrorTextTest, SaysThatAKeyOfTheCheckpointMayBeAbsent) {
  EXPECT_THAT(
      ErrorText(absl::DataLossError("config.json: hidden_size: missing")),
      ::testing::HasSubstr("a key or tensor is absent"));
}

TEST(ErrorTextTest, DoesNotRepeatAFieldThatTheMessageNames) {
  EXPECT_EQ(ErrorText(InvalidField("spec.fields", "\"x\" is unknown")),
            "error: spec.fields: \"x\" is unknown\n"
            "  INVALID_ARGUMENT INVALID_FIELD\n"
            "  correct the request\n");
}

}  // namespace
}  // namespace moescope::client
