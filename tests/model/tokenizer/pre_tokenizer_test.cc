#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/model/tokenizer/pre_tokenizer_internal.h"

namespace moescope::model::internal {
namespace {

using testing::ElementsAre;
using Words = std::vector<std::string>;

Words Cut(const std::string& json, const std::string& text,
          bool at_start = true) {
  const auto document = nlohmann::json::parse(json);
  const auto pre_tokenizer =
      ParsePreTokenizer(JsonNode(document, "pre_tokenizer")).value();
  const std::vector<Piece> pieces =
      pre_tokenizer->Apply({{text, at_start}}, RegexBudget()).value();
  Words words;
  for (const Piece& piece : pieces) {
    words.push_back(piece.text);
  }
  return words;
}

Words SplitAtDash(const std::string& behavior) {
  return Cut(R"({"type": "Split", "pattern": {"String": "-"}, "invert": false,
                 "behavior": ")" +
                 behavior + R"("})",
             "the-final--countdown");
}

TEST(SplitTest, TreatsMatchesAsTold) {
  EXPECT_THAT(SplitAtDash("Removed"), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(SplitAtDash("Isolated"),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(SplitAtDash("MergedWithPrevious"),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(SplitAtDash("MergedWithNext"),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(SplitAtDash("Contiguous"),
              ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(SplitTest, InvertsWhatIsAMatch) {
  EXPECT_THAT(Cut(R"({"type": "Split", "pattern": {"Regex": "\\w+"},
                      "behavior": "Removed", "invert": true})",
                  "ab, cd!"),
              ElementsAre("ab", "cd"));
}

TEST(SplitTest, CutsAtEmptyMatches) {
  EXPECT_THAT(Cut(R"json({"type": "Split", "invert": false,
                          "pattern": {"Regex": "(?=(\\d{3})+(?!\\d))"},
                          "behavior": "Isolated"})json",
                  "1234567"),
              ElementsAre("1", "234", "567"));
}

TEST(ByteLevelTest, CutsAsGpt2Does) {
  EXPECT_THAT(Cut(R"({"type": "ByteLevel", "add_prefix_space": false})",
                  "I'll  say:\n\n42 \u00E9"),
              ElementsAre("I", "'ll", "\u0120", "\u0120say", ":", "\u010A",
                          "\u010A", "42", "\u0120\u00C3\u00A9"));
}

TEST(ByteLevelTest, AddsASpaceInFrontOnce) {
  const std::string json = R"({"type": "ByteLevel", "add_prefix_space": true,
                               "use_regex": false})";

  EXPECT_THAT(Cut(json, "a b"), ElementsAre("\u0120a\u0120b"));
  EXPECT_THAT(Cut(json, " a"), ElementsAre("\u0120a"));
}

TEST(MetaspaceTest, PrependsAsItsSchemeSays) {
  const auto cut = [](const std::string& scheme, bool at_start) {
    return Cut(
        R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": ")" +
            scheme + R"("})",
        "a b", at_start);
  };

  EXPECT_THAT(cut("always", false), ElementsAre("_a", "_b"));
  EXPECT_THAT(cut("first", true), ElementsAre("_a", "_b"));
  EXPECT_THAT(cut("first", false), ElementsAre("a", "_b"));
  EXPECT_THAT(cut("never", true), ElementsAre("a", "_b"));
}

TEST(MetaspaceTest, ReadsTheOlderOption) {
  EXPECT_THAT(Cut(R"({"type": "Metaspace", "replacement": "_",
                      "add_prefix_space": true})",
                  "a"),
              ElementsAre("_a"));
}

TEST(MetaspaceTest, LeavesTheTextWholeWhenAsked) {
  EXPECT_THAT(Cut(R"({"type": "Metaspace", "replacement": "_",
                      "prepend_scheme": "always", "split": false})",
                  "a b"),
              ElementsAre("_a_b"));
}

TEST(DigitsTest, CutsNumbersOutWholeOrDigitByDigit) {
  EXPECT_THAT(
      Cut(R"({"type": "Digits", "individual_digits": false})", "a12\u00BDb"),
      ElementsAre("a", "12\u00BD", "b"));
  EXPECT_THAT(Cut(R"({"type": "Digits", "individual_digits": true})", "a12"),
              ElementsAre("a", "1", "2"));
}

TEST(PunctuationTest, IsolatesPunctuationUnlessTold) {
  EXPECT_THAT(Cut(R"({"type": "Punctuation"})", "a!?\u3002$"),
              ElementsAre("a", "!", "?", "\u3002", "$"));
  EXPECT_THAT(
      Cut(R"({"type": "Punctuation", "behavior": "Contiguous"})", "a!?b"),
      ElementsAre("a", "!?", "b"));
}

TEST(WhitespaceTest, SeparatesWordsFromOtherCharacters) {
  EXPECT_THAT(Cut(R"({"type": "Whitespace"})", " a_1\u0301!? b"),
              ElementsAre("a_1\u0301", "!?", "b"));
}

TEST(WhitespaceTest, SplitsAtWhitespaceOnly) {
  EXPECT_THAT(Cut(R"({"type": "WhitespaceSplit"})", " a! \u3000 b\n"),
              ElementsAre("a!", "b"));
}

TEST(SequenceTest, CutsWhatIsCutFurther) {
  EXPECT_THAT(Cut(R"({"type": "Sequence", "pretokenizers": [
                      {"type": "WhitespaceSplit"},
                      {"type": "Digits", "individual_digits": true}]})",
                  "a1 22"),
              ElementsAre("a", "1", "2", "2"));
}

}  // namespace
}  // namespace moescope::model::internal
