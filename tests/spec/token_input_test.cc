#include "moescope/spec/token_input.h"

#include <gtest/gtest.h>

#include <string>

#include "moescope/base/sha256.h"

namespace moescope::spec {
namespace {

// Length-prefixed, little-endian: 2 ids, 1 length, 1 label.
TEST(TokensDigestTest, IsGolden) {
  const TokenInput input = {{1, 258}, {2}, {"a"}};
  const std::string bytes(
      "\2\0\0\0\0\0\0\0\1\0\0\0\2\1\0\0"
      "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
      "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0a",
      49);
  EXPECT_EQ(TokensDigest(input), Sha256Hex(bytes));
}

TEST(TokensDigestTest, TellsSequencesFromEachOther) {
  const TokenInput one = {{1, 2}, {2}, {}};
  const TokenInput two = {{1, 2}, {1, 1}, {}};
  EXPECT_NE(TokensDigest(one), TokensDigest(two));
}

TEST(TokensDigestTest, TellsLabelsFromEachOther) {
  const TokenInput a = {{1, 2}, {1, 1}, {"ab", "c"}};
  const TokenInput b = {{1, 2}, {1, 1}, {"a", "bc"}};
  EXPECT_NE(TokensDigest(a), TokensDigest(b));
}

}  // namespace
}  // namespace moescope::spec
