#include "server/rpc/status_conversion_internal.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

#include "moescope/base/error.h"

namespace moescope::internal {
namespace {

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

template <class Message>
Message DetailAt(const google::rpc::Status& status, int index) {
  Message message;
  EXPECT_LT(index, status.details_size());
  EXPECT_TRUE(status.details(index).UnpackTo(&message));
  return message;
}

TEST(StatusConversionTest, OkHasNoDetails) {
  const grpc::Status status = ToGrpcStatus(absl::OkStatus());

  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.error_details(), "");
}

TEST(StatusConversionTest, CodeAndMessageAreTheSameInBothPlaces) {
  const grpc::Status status = ToGrpcStatus(absl::DataLossError("torn"));

  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(status.error_message(), "torn");
  EXPECT_EQ(Details(status).code(), 15);
  EXPECT_EQ(Details(status).message(), "torn");
}

TEST(StatusConversionTest, FieldsAndFactsTravel) {
  ErrorDetails details;
  details.reason = "TOKEN_LIMIT";
  details.fields = {{"input", "5 tokens, at most 4"}};
  details.metadata = {{"limit", "4"}};

  const google::rpc::Status sent = Details(ToGrpcStatus(
      MakeError(absl::StatusCode::kResourceExhausted, "too long", details)));

  const auto info = DetailAt<google::rpc::ErrorInfo>(sent, 0);
  EXPECT_EQ(info.reason(), "TOKEN_LIMIT");
  EXPECT_EQ(info.domain(), "moescope");
  EXPECT_EQ(info.metadata().at("limit"), "4");
  const auto request = DetailAt<google::rpc::BadRequest>(sent, 1);
  ASSERT_EQ(request.field_violations_size(), 1);
  EXPECT_EQ(request.field_violations(0).field(), "input");
  EXPECT_EQ(request.field_violations(0).description(), "5 tokens, at most 4");
}

TEST(StatusConversionTest, TimeToRetryTravels) {
  ErrorDetails details;
  details.reason = "QUEUE_FULL";
  details.retry_after = absl::Milliseconds(2500);
  const absl::Status status =
      MakeError(absl::StatusCode::kResourceExhausted, "full", details);

  const auto retry =
      DetailAt<google::rpc::RetryInfo>(Details(ToGrpcStatus(status)), 1);

  EXPECT_EQ(retry.retry_delay().seconds(), 2);
  EXPECT_EQ(retry.retry_delay().nanos(), 500000000);
  EXPECT_EQ(RetryPushbackMs(status), 2500);
}

TEST(StatusConversionTest, OnlyResourceExhaustedPushesBack) {
  ErrorDetails details;
  details.retry_after = absl::Seconds(1);

  EXPECT_EQ(RetryPushbackMs(MakeError(absl::StatusCode::kUnavailable, "draining",
                                      details)),
            std::nullopt);
}

TEST(StatusConversionTest, StatusWithoutReasonIsNamedByItsCode) {
  const google::rpc::Status sent =
      Details(ToGrpcStatus(absl::NotFoundError("gone")));

  EXPECT_EQ(DetailAt<google::rpc::ErrorInfo>(sent, 0).reason(), "NOT_FOUND");
}

TEST(StatusConversionTest, UnknownBecomesInternal) {
  EXPECT_EQ(ToGrpcStatus(absl::UnknownError("what")).error_code(),
            grpc::StatusCode::INTERNAL);
}

TEST(StatusConversionTest, LongTextsAreCutToWhatAClientTakes) {
  const std::string text(20000, 'x');
  ErrorDetails details;
  details.reason = "INVALID_FIELD";
  details.fields = {{"id", text}, {text, text}};
  details.metadata = {{"actual", text}};

  const grpc::Status sent = ToGrpcStatus(
      MakeError(absl::StatusCode::kNotFound, text, details), "00-abc-def-01");

  EXPECT_EQ(sent.error_message().size(), 900u);
  EXPECT_THAT(sent.error_message(), testing::EndsWith("x..."));
  EXPECT_LT(sent.error_details().size(), 3000u);
  const google::rpc::Status status = Details(sent);
  EXPECT_EQ(DetailAt<google::rpc::ErrorInfo>(status, 0).reason(),
            "INVALID_FIELD");
  EXPECT_EQ(DetailAt<google::rpc::BadRequest>(status, 1)
                .field_violations(0)
                .field(),
            "id");
}

TEST(StatusConversionTest, RequestIdIsQuoted) {
  const google::rpc::Status sent =
      Details(ToGrpcStatus(absl::AbortedError("no"), "00-abc-def-01"));

  EXPECT_EQ(DetailAt<google::rpc::RequestInfo>(sent, 1).request_id(),
            "00-abc-def-01");
}

}  // namespace
}  // namespace moescope::internal
