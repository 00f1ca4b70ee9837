#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "server/model/tokenizer/bpe_internal.h"

namespace moescope::model::internal {
namespace {

using Ids = std::vector<std::int32_t>;

Ids Encode(const std::string& model, const std::string& word) {
  const auto document = nlohmann::json::parse(model);
  return Bpe::Parse(JsonNode(document, "model")).value()->Encode(word).value();
}

TEST(BpeTest, MergesTheLowestRankFirst) {
  const std::string model = R"({"vocab": {"a": 0, "b": 1, "c": 2, "ab": 3,
    "bc": 4}, "merges": ["b c", "a b"]})";

  EXPECT_EQ(Encode(model, "abc"), (Ids{0, 4}));
  EXPECT_EQ(Encode(model, "aab"), (Ids{0, 3}));
}

TEST(BpeTest, MergesEqualRanksFromTheLeft) {
  const std::string model =
      R"({"vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"]]})";

  EXPECT_EQ(Encode(model, "aaa"), (Ids{1, 0}));
  EXPECT_EQ(Encode(model, "aaaaa"), (Ids{1, 1, 0}));
}

TEST(BpeTest, ReadsMergesOfTokensWithSpacesAsPairs) {
  const std::string model = R"({"vocab": {" ": 0, "a": 1, " a": 2},
    "merges": [[" ", "a"]]})";

  EXPECT_EQ(Encode(model, " a"), Ids{2});
}

TEST(BpeTest, SkipsTheVersionLineOfOldMerges) {
  const std::string model = R"({"vocab": {"a": 0, "b": 1, "ab": 2},
    "merges": ["#version: 0.2", "a b"]})";

  EXPECT_EQ(Encode(model, "ab"), Ids{2});
}

TEST(BpeTest, DropsUnknownCharactersWithoutUnkToken) {
  EXPECT_EQ(Encode(R"({"vocab": {"a": 0}, "merges": []})", "axa"), (Ids{0, 0}));
}

TEST(BpeTest, GivesOneUnkTokenPerUnknownCharacter) {
  const std::string model =
      R"({"vocab": {"u": 0, "a": 1}, "merges": [], "unk_token": "u"})";

  EXPECT_EQ(Encode(model, "axya"), (Ids{1, 0, 0, 1}));
}

TEST(BpeTest, FusesUnkTokensWhenAsked) {
  const std::string model = R"({"vocab": {"u": 0, "a": 1}, "merges": [],
    "unk_token": "u", "fuse_unk": true})";

  EXPECT_EQ(Encode(model, "axyaz"), (Ids{1, 0, 1, 0}));
}

TEST(BpeTest, TakesWholeWordsFirstWhenMergesAreIgnored) {
  const std::string vocab = R"("vocab": {"a": 0, "b": 1, "ab": 2}, "merges":
    []})";

  EXPECT_EQ(Encode(R"({"ignore_merges": true, )" + vocab, "ab"), Ids{2});
  EXPECT_EQ(Encode(R"({"ignore_merges": false, )" + vocab, "ab"), (Ids{0, 1}));
}

TEST(BpeTest, SaysWhenItNeedsAnUnkTokenThatIsNone) {
  const auto document = nlohmann::json::parse(
      R"({"vocab": {"a": 0}, "merges": [], "unk_token": "u"})");
  const auto bpe = Bpe::Parse(JsonNode(document, "model")).value();

  EXPECT_EQ(bpe->Encode("a").value(), Ids{0});
  EXPECT_EQ(bpe->Encode("x").status().code(), absl::StatusCode::kDataLoss);
}

TEST(BpeTest, KeepsHolesBetweenIds) {
  const auto document =
      nlohmann::json::parse(R"({"vocab": {"a": 0, "b": 5}, "merges": []})");
  const auto bpe = Bpe::Parse(JsonNode(document, "model")).value();

  EXPECT_EQ(bpe->size(), 6);
  EXPECT_EQ(bpe->Token(3), nullptr);
  EXPECT_EQ(*bpe->Token(5), "b");
}

}  // namespace
}  // namespace moescope::model::internal
