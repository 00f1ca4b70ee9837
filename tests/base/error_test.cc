#include "moescope/base/error.h"

#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace moescope {
namespace {

TEST(ErrorTest, DetailsSurviveTheStatus) {
  ErrorDetails details;
  details.reason = "MODEL_TOO_LARGE";
  details.fields.push_back({"model", "tab\there, line\nthere"});
  details.metadata["needed"] = "93 GiB";
  details.retry_after = absl::Milliseconds(1500);

  const absl::Status status =
      MakeError(absl::StatusCode::kFailedPrecondition, "too large", details);

  const ErrorDetails read = GetErrorDetails(status);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "too large");
  EXPECT_EQ(read.reason, "MODEL_TOO_LARGE");
  ASSERT_EQ(read.fields.size(), 1U);
  EXPECT_EQ(read.fields[0].field, "model");
  EXPECT_EQ(read.fields[0].description, "tab\there, line\nthere");
  EXPECT_EQ(read.metadata.at("needed"), "93 GiB");
  EXPECT_EQ(read.retry_after, absl::Milliseconds(1500));
}

TEST(ErrorTest, FieldErrorNamesTheFieldInItsMessage) {
  const absl::Status status = InvalidField("spec.layers", "48 is too large");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "spec.layers: 48 is too large");
  EXPECT_EQ(GetErrorDetails(status).reason, "INVALID_FIELD");
}

TEST(ErrorTest, AnnotateKeepsCodeAndDetails) {
  const absl::Status status =
      Annotate(InvalidField("text", "is empty"), "document 2");
  EXPECT_EQ(status.message(), "document 2: text: is empty");
  EXPECT_EQ(GetErrorDetails(status).fields[0].field, "text");
}

TEST(ErrorTest, PlainStatusHasNoDetails) {
  const ErrorDetails details =
      GetErrorDetails(absl::InternalError("something"));
  EXPECT_EQ(details.reason, "");
  EXPECT_TRUE(details.fields.empty());
}

}  // namespace
}  // namespace moescope
