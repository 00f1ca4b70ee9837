#include "moescope/base/field_path.h"

#include <gtest/gtest.h>

#include "moescope/base/error.h"

namespace moescope {
namespace {

std::string FieldOf(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  return details.fields.empty() ? "" : details.fields[0].field;
}

TEST(RenameFieldTest, RenamesThePathAndWhatIsBelowIt) {
  EXPECT_EQ(FieldOf(RenameField(InvalidField("spec", "x"), "spec", "a.b")),
            "a.b");
  EXPECT_EQ(FieldOf(RenameField(InvalidField("spec.x", "x"), "spec", "a")),
            "a.x");
  EXPECT_EQ(FieldOf(RenameField(InvalidField("ids[3]", "x"), "ids", "t.ids")),
            "t.ids[3]");
}

TEST(RenameFieldTest, LeavesFieldsThatOnlyBeginAlike) {
  const absl::Status status =
      RenameField(InvalidField("specification", "x"), "spec", "a");
  EXPECT_EQ(FieldOf(status), "specification");
  EXPECT_EQ(status.message(), "specification: x");
}

TEST(RenameFieldTest, KeepsCodeReasonAndRestOfTheMessage) {
  const absl::Status status = RenameField(
      FieldError(absl::StatusCode::kNotFound, "model", "\"x\" is not known",
                 "MODEL_NOT_FOUND"),
      "model", "spec.model");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "spec.model: \"x\" is not known");
  EXPECT_EQ(GetErrorDetails(status).reason, "MODEL_NOT_FOUND");
}

TEST(RenameFieldTest, LeavesAStatusWithoutFields) {
  const absl::Status status =
      RenameField(absl::DataLossError("model: torn"), "model", "spec.model");
  EXPECT_EQ(status.message(), "model: torn");
}

}  // namespace
}  // namespace moescope
