#include "server/model/bounded_json_internal.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moescope::model::internal {
namespace {

using ::testing::HasSubstr;

JsonLimits Limits(std::int64_t max_tree_bytes) {
  JsonLimits limits;
  limits.max_tree_bytes = max_tree_bytes;
  return limits;
}

TEST(BoundedJsonTest, KeepsWhatTheTextSays) {
  const std::string text = R"({"a":[1,-2,2.5,true,null,"b"],"c":{"d":{}}})";

  const auto json = ParseJsonObject(text);

  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->dump(), text);
}

// The bytes that each kind of content is taken to need.
struct Content {
  const char* name;
  const char* text;
  std::int64_t tree_bytes;
};

class ContentTest : public ::testing::TestWithParam<Content> {};

TEST_P(ContentTest, FitsItsBytes) {
  EXPECT_TRUE(
      ParseJsonObject(GetParam().text, Limits(GetParam().tree_bytes)).ok());
}

TEST_P(ContentTest, IsRefusedAboveTheLimit) {
  const auto json =
      ParseJsonObject(GetParam().text, Limits(GetParam().tree_bytes - 1));

  EXPECT_EQ(json.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(json.status().message()),
              HasSubstr(std::to_string(GetParam().tree_bytes - 1) +
                        " bytes of memory"));
}

// The outermost object takes 24 + 64, a member 32 + 48, a value 24, a list or
// object 64 more, a string 48 more.
INSTANTIATE_TEST_SUITE_P(
    Contents, ContentTest,
    ::testing::Values(
        Content{"Nothing", "{}", 88}, Content{"Member", R"({"a":1})", 192},
        Content{"LongKey", R"({"0123456789abcdef":1})", 224},
        Content{"Text", R"({"a":"b"})", 240},
        Content{"LongText", R"({"a":"0123456789abcdef"})", 272},
        Content{"Array", R"({"a":[1,2]})", 304},
        Content{"EmptyObjects", R"({"a":[{},{}]})", 432}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(BoundedJsonTest, RefusesMoreLevelsThanTheLimit) {
  JsonLimits limits;
  limits.max_depth = 2;

  EXPECT_TRUE(ParseJsonObject(R"({"a":[]})", limits).ok());
  EXPECT_EQ(ParseJsonObject(R"({"a":[[]]})", limits).status().message(),
            "nested deeper than 2 levels");
}

}  // namespace
}  // namespace moescope::model::internal
