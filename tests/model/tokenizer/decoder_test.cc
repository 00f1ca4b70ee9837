#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/model/tokenizer/decoder_internal.h"

namespace moescope::model::internal {
namespace {

Decoder Parse(const std::string& json) {
  const auto document = nlohmann::json::parse(json);
  return Decoder::Parse(JsonNode(document, "decoder")).value();
}

std::string Decode(const std::string& json, std::vector<std::string> tokens) {
  return Parse(json).Decode(std::move(tokens)).value();
}

TEST(DecoderTest, JoinsWithSpacesWhenThereIsNone) {
  EXPECT_EQ(Decode("null", {"a", "b"}), "a b");
}

TEST(DecoderTest, TurnsByteLevelCharactersIntoBytes) {
  EXPECT_EQ(Decode(R"({"type": "ByteLevel"})", {"\u0120a", "\u00C3", "\u00A9"}),
            " a\u00E9");
  EXPECT_EQ(Decode(R"({"type": "ByteLevel"})", {"\u00C3", "\u65E5"}),
            "\uFFFD\u65E5");
}

TEST(DecoderTest, DropsTheFirstMetaspaceOnly) {
  const std::string json = R"({"type": "Metaspace", "replacement": "_",
                               "prepend_scheme": "always"})";

  EXPECT_EQ(Decode(json, {"_a", "_b"}), "a b");
  EXPECT_EQ(Parse(json).DecodeOne("_a"), " a");
}

TEST(DecoderTest, KeepsTheFirstMetaspaceThatNobodyPrepended) {
  EXPECT_EQ(Decode(R"({"type": "Metaspace", "replacement": "_",
                       "prepend_scheme": "never"})",
                   {"_a", "_b"}),
            " a b");
}

TEST(DecoderTest, GivesAReplacementForEveryByteOfABrokenRun) {
  const std::string json = R"({"type": "ByteFallback"})";

  EXPECT_EQ(Decode(json, {"<0xC3>", "<0xA9>", "a"}), "\u00E9a");
  EXPECT_EQ(Decode(json, {"<0xC3>", "<0x41>"}), "\uFFFD\uFFFD");
  EXPECT_EQ(Decode(json, {"<0xZZ>"}), "<0xZZ>");
}

TEST(DecoderTest, StripsWholeCharactersFromBothEnds) {
  EXPECT_EQ(Decode(R"({"type": "Strip", "content": "_", "start": 1,
                       "stop": 2})",
                   {"__a___", "_"}),
            "_a_");
}

TEST(DecoderTest, ReplacesByRegex) {
  EXPECT_EQ(Decode(R"({"type": "Replace", "pattern": {"Regex": "x+"},
                       "content": "-"})",
                   {"axxb", "x"}),
            "a-b-");
}

}  // namespace
}  // namespace moescope::model::internal
