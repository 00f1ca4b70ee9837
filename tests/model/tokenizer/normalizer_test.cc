#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/model/tokenizer/normalizer_internal.h"

namespace moescope::model::internal {
namespace {

std::string Normalize(const std::string& json, const std::string& text) {
  const auto document = nlohmann::json::parse(json);
  const auto normalizer =
      ParseNormalizer(JsonNode(document, "normalizer")).value();
  return normalizer->Apply({text, true}, RegexBudget()).value().text;
}

TEST(NormalizerTest, ComposesAndDecomposes) {
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", "e\u0301"), "\u00E9");
  EXPECT_EQ(Normalize(R"({"type": "NFD"})", "\u00E9"), "e\u0301");
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", "\uFB01"), "\uFB01");
  EXPECT_EQ(Normalize(R"({"type": "NFKC"})", "\uFB01\u00B2"), "fi2");
  EXPECT_EQ(Normalize(R"({"type": "NFKD"})", "\u1E9B\u0323"), "s\u0323\u0307");
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", "\u1100\u1161\u11A8"), "\uAC01");
}

TEST(NormalizerTest, OrdersMarks) {
  EXPECT_EQ(Normalize(R"({"type": "NFD"})", "a\u0301\u0323"), "a\u0323\u0301");
}

TEST(NormalizerTest, KeepsNulCharacters) {
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", std::string("a\0b", 3)),
            std::string("a\0b", 3));
}

TEST(NormalizerTest, LowersCharacterByCharacter) {
  EXPECT_EQ(Normalize(R"({"type": "Lowercase"})", "A\u00C4\u03A3\u0130"),
            "a\u00E4\u03C3i\u0307");
}

TEST(NormalizerTest, StripsWhitespaceAtEitherEnd) {
  EXPECT_EQ(Normalize(R"({"type": "Strip", "strip_left": true,
                          "strip_right": false})",
                      "\u3000 a \n"),
            "a \n");
  EXPECT_EQ(Normalize(R"({"type": "Strip", "strip_left": true,
                          "strip_right": true})",
                      "\u00A0 a \u2028"),
            "a");
  EXPECT_EQ(Normalize(R"({"type": "Strip", "strip_left": true,
                          "strip_right": true})",
                      "  "),
            "");
}

TEST(NormalizerTest, StripsMarks) {
  EXPECT_EQ(Normalize(R"({"type": "StripAccents"})", "e\u0301\u00E9"),
            "e\u00E9");
}

TEST(NormalizerTest, PrependsToAnythingButNothing) {
  EXPECT_EQ(Normalize(R"({"type": "Prepend", "prepend": "_"})", "a"), "_a");
  EXPECT_EQ(Normalize(R"({"type": "Prepend", "prepend": "_"})", ""), "");
}

TEST(NormalizerTest, ReplacesStringsLiterally) {
  EXPECT_EQ(Normalize(R"({"type": "Replace", "pattern": {"String": "a."},
                          "content": "$0"})",
                      "a.aba."),
            "$0ab$0");
}

TEST(NormalizerTest, ReplacesRegexMatches) {
  EXPECT_EQ(Normalize(R"({"type": "Replace", "pattern": {"Regex": " {2,}"},
                          "content": "_"})",
                      "a  b c   d"),
            "a_b c_d");
}

TEST(NormalizerTest, AppliesASequenceInOrder) {
  EXPECT_EQ(Normalize(R"({"type": "Sequence", "normalizers": [
                          {"type": "Prepend", "prepend": "X"},
                          {"type": "Lowercase"}]})",
                      "A"),
            "xa");
}

TEST(NormalizerTest, RefusesToGrowATextWithoutBound) {
  const auto document = nlohmann::json::parse(
      R"({"type": "Replace", "pattern": {"String": "a"}, "content": ")" +
      std::string(1 << 20, 'b') + R"("})");
  const auto normalizer =
      ParseNormalizer(JsonNode(document, "normalizer")).value();

  const auto piece =
      normalizer->Apply({std::string(1024, 'a'), true}, RegexBudget());

  EXPECT_EQ(piece.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(piece.status().message(), testing::HasSubstr("text: grows"));
}

}  // namespace
}  // namespace moescope::model::internal
