#include "moescope/base/quote_name.h"

#include <gtest/gtest.h>

namespace moescope {
namespace {

TEST(QuoteNameTest, LongTextIsCutBetweenCharacters) {
  EXPECT_EQ(Shortened("abc", 3), "abc");
  EXPECT_EQ(Shortened("abcdefgh", 6), "abc...");
  // "ä" is two bytes.
  EXPECT_EQ(Shortened("ab\xc3\xa4" "cdefgh", 6), "ab...");
  EXPECT_EQ(Shortened("abcdef", 2), "...");
}

TEST(QuoteNameTest, NameIsEscapedAndCut) {
  EXPECT_EQ(QuoteName("a\"b"), "\"a\\\"b\"");
  EXPECT_EQ(QuoteName(std::string(200, 'x')),
            "\"" + std::string(117, 'x') + "...\"");
}

}  // namespace
}  // namespace moescope
