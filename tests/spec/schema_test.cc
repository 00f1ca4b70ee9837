#include "moescope/spec/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace moescope::spec {
namespace {

using ::testing::HasSubstr;

ResultSchema Schema() {
  return {{{"layer.{layer}.{projection}.matrix",
            DType::kFloat32,
            {"N", "N"},
            "1",
            "cosines"},
           {"total", DType::kFloat64, {}, "1", "a number"}}};
}

TEST(ResultSchemaTest, FindsWhatAPatternDeclares) {
  const ResultSchema schema = Schema();
  EXPECT_NE(schema.Find("layer.12.up_proj.matrix"), nullptr);
  EXPECT_NE(schema.Find("total"), nullptr);
}

TEST(ResultSchemaTest, KnowsNoOtherNames) {
  const ResultSchema schema = Schema();
  EXPECT_EQ(schema.Find("layer.x.up_proj.matrix"), nullptr);
  EXPECT_EQ(schema.Find("layer.1.side_proj.matrix"), nullptr);
  EXPECT_EQ(schema.Find("layer.1.up_proj.matrix.more"), nullptr);
  EXPECT_EQ(schema.Find("tota"), nullptr);
}

TEST(ResultSchemaTest, ChecksDtypeAndDimensions) {
  const ResultSchema schema = Schema();
  EXPECT_TRUE(schema.Check({{MakeScalar("total", 1.0)}}).ok());
  EXPECT_THAT(std::string(schema.Check({{MakeCount("total", 1)}}).message()),
              HasSubstr("\"total\" is int64"));
  EXPECT_THAT(std::string(schema.Check({{MakeScalar("other", 1)}}).message()),
              HasSubstr("\"other\" is not declared"));
}

}  // namespace
}  // namespace moescope::spec
