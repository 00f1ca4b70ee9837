#include "moescope/base/utf8.h"

#include <gtest/gtest.h>

namespace moescope {
namespace {

constexpr std::size_t kValid = absl::string_view::npos;

TEST(Utf8Test, TakesWhatTheStandardTakesAndNothingElse) {
  EXPECT_EQ(InvalidUtf8Offset(""), kValid);
  EXPECT_EQ(InvalidUtf8Offset("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), kValid);
  EXPECT_EQ(InvalidUtf8Offset("\xf4\x8f\xbf\xbf"), kValid);  // U+10FFFF
  EXPECT_EQ(InvalidUtf8Offset("a\xc0\xaf"), 1u);          // longer than needed
  EXPECT_EQ(InvalidUtf8Offset("a\xed\xa0\x80"), 1u);      // a surrogate
  EXPECT_EQ(InvalidUtf8Offset("a\xf4\x90\x80\x80"), 1u);  // above U+10FFFF
  EXPECT_EQ(InvalidUtf8Offset("a\xe2\x82"), 1u);          // cut short
  EXPECT_EQ(InvalidUtf8Offset("a\xe2\x82z"), 1u);
}

}  // namespace
}  // namespace moescope
