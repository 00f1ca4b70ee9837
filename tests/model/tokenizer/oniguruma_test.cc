// What Oniguruma matches, PCRE2 must match once the pattern is translated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/model/tokenizer/regex_internal.h"

namespace moescope::model::internal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Words = std::vector<std::string>;

Words FindAll(const std::string& pattern, const std::string& text) {
  const auto regex = Regex::Compile(pattern, "pattern").value();
  const std::vector<Span> matches = regex.FindAll(text, RegexBudget()).value();
  Words words;
  for (const Span& span : matches) {
    words.push_back(text.substr(span.start, span.end - span.start));
  }
  return words;
}

absl::Status Refusal(const std::string& pattern) {
  return Regex::Compile(pattern, "pattern").status();
}

TEST(OnigurumaTest, ReadsNestedClassesAsUnions) {
  EXPECT_THAT(FindAll("[a[b-d]]+", "abcde"), ElementsAre("abcd"));
  EXPECT_THAT(FindAll("[^a[b-d]]+", "abcde"), ElementsAre("e"));
  EXPECT_THAT(FindAll(R"( ?[^(\s|[.,!?])]+)", "ab, (c)|d"),
              ElementsAre("ab", "c", "d"));
}

TEST(OnigurumaTest, IntersectsClasses) {
  EXPECT_THAT(FindAll("[a-z&&[^aeiou]]+", "hello"), ElementsAre("h", "ll"));
  EXPECT_THAT(FindAll(R"([\p{L}&&[^\p{Han}]]+)", "ab\u65E5c"),
              ElementsAre("ab", "c"));
  EXPECT_THAT(FindAll("[^a-z&&[^aeiou]]", "ab1"), ElementsAre("a", "1"));
}

TEST(OnigurumaTest, KnowsNegatedSetsInsideClasses) {
  EXPECT_THAT(FindAll(R"([\W_]+)", "a_-b"), ElementsAre("_-"));
  EXPECT_THAT(FindAll(R"([\s\S])", "a\n"), ElementsAre("a", "\n"));
  EXPECT_THAT(FindAll(R"([^\P{L}]+)", "ab1"), ElementsAre("ab"));
}

TEST(OnigurumaTest, CountsMarksAndConnectorsAsWordCharacters) {
  EXPECT_THAT(FindAll(R"(\w+)", "e\u0301\u203Fx \u200D"),
              ElementsAre("e\u0301\u203Fx"));
  EXPECT_THAT(FindAll(R"(\w)", "\u00BD\u2462"), ElementsAre("\u00BD"));
  EXPECT_THAT(FindAll(R"([\w])", "\u00BD\u2462"), IsEmpty());
  EXPECT_THAT(FindAll(R"(\bx\b)", "x\u0301 x"), ElementsAre("x"));
}

TEST(OnigurumaTest, TakesWhitespaceFromUnicode) {
  EXPECT_THAT(FindAll(R"(\s)", "\u0085\u180E\u3000"),
              ElementsAre("\u0085", "\u3000"));
}

TEST(OnigurumaTest, ReadsHAsHexadecimal) {
  EXPECT_THAT(FindAll(R"(\h+)", "fF0g \t"), ElementsAre("fF0"));
}

TEST(OnigurumaTest, ReadsMAsDotMatchesAll) {
  EXPECT_THAT(FindAll("(?m:.)+", "a\nb"), ElementsAre("a\nb"));
  EXPECT_THAT(FindAll(".+", "a\r\nb"), ElementsAre("a\r", "b"));
}

TEST(OnigurumaTest, AnchorsAtLines) {
  EXPECT_THAT(FindAll("^.", "ab\ncd"), ElementsAre("a", "c"));
  EXPECT_THAT(FindAll(".$", "ab\ncd"), ElementsAre("b", "d"));
}

TEST(OnigurumaTest, ReadsIntervals) {
  EXPECT_THAT(FindAll("a{,2}b", "aaab b"), ElementsAre("aab", "b"));
  // A second quantifier, neither possessive nor lazy.
  EXPECT_THAT(FindAll("a{1,2}+ab", "aaaab"), ElementsAre("aaaab"));
  EXPECT_THAT(FindAll("ba{2}?", "ba baa"), ElementsAre("b", "baa"));
  EXPECT_THAT(FindAll("a{", "a{"), ElementsAre("a{"));
}

TEST(OnigurumaTest, KnowsScriptsAndLongNames) {
  EXPECT_THAT(FindAll(R"(\p{Hiragana}+)", "\u3042\u30FC"),
              ElementsAre("\u3042"));
  EXPECT_THAT(FindAll(R"(\p{Uppercase_Letter}\p{^Letter})", "A1b2"),
              ElementsAre("A1"));
  EXPECT_THAT(FindAll(R"([[:punct:]]+)", "a+,b"), ElementsAre("+,"));
  EXPECT_THAT(FindAll(R"(\p{Punct}+)", "a+,b"), ElementsAre(","));
}

TEST(OnigurumaTest, ReadsCodePoints) {
  EXPECT_THAT(FindAll(R"([\u0041-\u0043]|\x{65e5})", "AD\u65E5"),
              ElementsAre("A", "\u65E5"));
}

TEST(OnigurumaTest, SupportsPossessiveAndLookaround) {
  EXPECT_THAT(FindAll(R"(a++b|a(?!b)|(?<=b)c|(?i:D)|(?>e+)f)", "aabcd eef"),
              ElementsAre("aab", "c", "d", "eef"));
}

TEST(OnigurumaTest, LeavesEmptyMatchesBehindMatchesOut) {
  EXPECT_THAT(FindAll("a*", "aab"), ElementsAre("aa", ""));
  EXPECT_THAT(FindAll("x*", "\u00E9"), ElementsAre("", ""));
}

TEST(OnigurumaTest, RefusesWhatItCanNotTranslate) {
  EXPECT_EQ(Refusal("(?~a)").code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Refusal("(?x: a)").message(), HasSubstr("(?x is not translated"));
  EXPECT_THAT(Refusal(R"(\C-a)").message(), HasSubstr("\\C"));
  EXPECT_THAT(Refusal("(*NO_JIT)a").message(), HasSubstr("(*"));
  EXPECT_THAT(Refusal("(a").message(), HasSubstr("pattern (regex \"(a\""));
  EXPECT_THAT(Refusal("a)").message(), HasSubstr("unmatched"));
  EXPECT_THAT(Refusal("[a").message(), HasSubstr("a class without ]"));
  EXPECT_THAT(Refusal(std::string(100, '[')).message(),
              HasSubstr("nested so deeply"));
  EXPECT_THAT(Refusal("a\\").message(), HasSubstr("a backslash at the end"));
}

TEST(RegexTest, StopsWhenItsTimeIsOver) {
  const auto regex = Regex::Compile("b", "pattern").value();

  const auto matches =
      regex.FindAll("ab", RegexBudget(std::chrono::milliseconds(0)));

  EXPECT_EQ(matches.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(matches.status().message(), HasSubstr("time limit"));
}

}  // namespace
}  // namespace moescope::model::internal
