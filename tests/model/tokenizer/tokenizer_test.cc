#include "moescope/model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"

namespace moescope::model {
namespace {

using Ids = std::vector<std::int32_t>;
using testing::HasSubstr;

std::shared_ptr<const Tokenizer> FromJson(absl::string_view text) {
  return Tokenizer::FromJson(text).value();
}

// Byte-level pieces of "é" and of a tab, and an added token.
constexpr char kByteLevel[] = R"json({
  "added_tokens": [{"id": 9, "content": "<a b>", "special": true,
                    "normalized": false}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "merges": ["Ġ a"], "vocab": {
    "Ã": 0, "©": 1, "a": 2, "Ġ": 3, "Ġa": 4, "ĉ": 5, "\\": 6, "â": 7,
    "âĢ®": 8}}})json";

constexpr char kByteFallback[] = R"json({
  "decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
    "merges": [], "vocab": {"<unk>": 0, "▁": 1, "a": 2, "<0xC3>": 3,
    "<0xA9>": 4, "▁a": 5}}})json";

TEST(TokenizerTest, DecodesSingleTokensToRawBytes) {
  const auto tokenizer = FromJson(kByteLevel);

  EXPECT_EQ(tokenizer->DecodeToken(0), "\xC3");
  EXPECT_EQ(tokenizer->DecodeToken(4), " a");
  EXPECT_EQ(tokenizer->DecodeToken(9), "<a b>");
  EXPECT_EQ(tokenizer->DecodeToken(10), "");
  EXPECT_EQ(tokenizer->DecodeToken(-1), "");
}

TEST(TokenizerTest, DecodesSingleFallbackTokensToRawBytes) {
  const auto tokenizer = FromJson(kByteFallback);

  EXPECT_EQ(tokenizer->DecodeToken(3), "\xC3");
  EXPECT_EQ(tokenizer->DecodeToken(5), " a");
  EXPECT_EQ(tokenizer->Describe(), "BPE, byte fallback, 6 entries");
}

TEST(TokenizerTest, ShowsTokensOnATerminal) {
  const auto tokenizer = FromJson(kByteLevel);

  EXPECT_EQ(tokenizer->DisplayToken(0), "\\xC3");
  EXPECT_EQ(tokenizer->DisplayToken(4), " a");
  EXPECT_EQ(tokenizer->DisplayToken(5), "\\t");
  EXPECT_EQ(tokenizer->DisplayToken(6), "\\\\");
  EXPECT_EQ(tokenizer->DisplayToken(7), "\\xE2");
  EXPECT_EQ(tokenizer->DisplayToken(8), "\\u{202E}");
  EXPECT_EQ(tokenizer->DisplayToken(9), "<a b>");
  EXPECT_EQ(tokenizer->DisplayToken(5000), "[5000]");
}

TEST(TokenizerTest, OnlyTokensThatTheFileCallsSpecialAreSpecial) {
  const auto tokenizer = FromJson(kByteLevel);

  EXPECT_TRUE(tokenizer->IsSpecial(9));
  EXPECT_FALSE(tokenizer->IsSpecial(4));
  EXPECT_FALSE(tokenizer->IsSpecial(10));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
}

TEST(TokenizerTest, JoinsBytesOfSeveralTokens) {
  const auto byte_level = FromJson(kByteLevel);
  const auto fallback = FromJson(kByteFallback);

  EXPECT_EQ(byte_level->Decode({0, 1, 4, 99}).value(), "é a");
  EXPECT_EQ(byte_level->Decode({0, 4}).value(), "\xEF\xBF\xBD a");
  EXPECT_EQ(fallback->Decode({5, 3, 4, 5}).value(), "aé a");
}

TEST(TokenizerTest, FallsBackToBytesOfUnknownCharacters) {
  EXPECT_EQ(FromJson(kByteFallback)->Encode("aé").value(), (Ids{2, 3, 4}));
  EXPECT_EQ(FromJson(kByteFallback)->Encode("aß").value(), (Ids{2, 0}));
}

TEST(TokenizerTest, VocabularyReachesToTheHighestAddedToken) {
  EXPECT_EQ(FromJson(kByteLevel)->vocab_size(), 10);
  EXPECT_EQ(FromJson(kByteLevel)->bos_id(), std::nullopt);
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8) {
  const auto ids = FromJson(kByteLevel)->Encode("a\xC3");

  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(GetErrorDetails(ids.status()).fields.size(), 1U);
  EXPECT_EQ(GetErrorDetails(ids.status()).fields[0].field, "text");
  EXPECT_THAT(ids.status().message(), HasSubstr("not UTF-8 at byte 1"));
}

TEST(TokenizerTest, RefusesSurrogatesAndOverlongForms) {
  const auto tokenizer = FromJson(kByteLevel);

  EXPECT_EQ(tokenizer->Encode("\xED\xA0\x80").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(tokenizer->Encode("\xC0\x80").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(tokenizer->Encode("\xF4\x90\x80\x80").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TokenizerTest, RefusesTextAboveTheLimit) {
  const auto ids =
      FromJson(kByteLevel)->Encode(std::string((64 << 20) + 1, 'a'));

  EXPECT_EQ(ids.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(ids.status().message(), HasSubstr("at most 67108864"));
}

TEST(TokenizerTest, EncodesALongWordInOneGo) {
  const std::string json = R"({"model": {"type": "BPE",
    "vocab": {"a": 0, "aa": 1, "aaaa": 2}, "merges": ["a a", "aa aa"]}})";

  // 1 MiB without a boundary: quadratic work would take hours.
  const auto ids = FromJson(json)->Encode(std::string(1 << 20, 'a'));

  EXPECT_EQ(ids.value(), Ids(1 << 18, 2));
}

TEST(TokenizerTest, SortsALongRunOfMarksInOneGo) {
  const std::string json = R"({"normalizer": {"type": "NFD"},
    "model": {"type": "BPE", "unk_token": "u", "fuse_unk": true,
              "vocab": {"u": 0}, "merges": []}})";
  std::string marks;
  for (int i = 0; i < 200'000; ++i) {
    marks += "\xCC\x81\xCC\xA3";
  }

  EXPECT_EQ(FromJson(json)->Encode(marks).value(), Ids{0});
}

TEST(TokenizerTest, GivesUpOnARegexThatBacktracksWithoutEnd) {
  const std::string json = R"({"pre_tokenizer": {"type": "Split",
      "pattern": {"Regex": "(?:(a|b|ab)+)+[cd]"}, "behavior": "Isolated",
      "invert": false},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})";
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += "ab";
  }

  const auto ids = FromJson(json)->Encode(text);

  EXPECT_EQ(ids.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetails(ids.status()).fields.at(0).field, "text");
}

TEST(TokenizerTest, MatchesAddedTokensLongestFirst) {
  const auto tokenizer = FromJson(R"({
    "added_tokens": [
      {"id": 1, "content": "<x", "normalized": false},
      {"id": 2, "content": "<x>", "normalized": false},
      {"id": 3, "content": "<l>", "normalized": false, "lstrip": true},
      {"id": 4, "content": "<r>", "normalized": false, "rstrip": true},
      {"id": 5, "content": "aa", "normalized": false, "single_word": true},
      {"id": 6, "content": "Q", "normalized": true}],
    "normalizer": {"type": "Lowercase"},
    "model": {"type": "BPE", "vocab": {"a": 0, " ": 7, "q": 8}, "merges": []}
  })");

  EXPECT_EQ(tokenizer->Encode("<x><x").value(), (Ids{2, 1}));
  EXPECT_EQ(tokenizer->Encode("a  <l> a").value(), (Ids{0, 3, 7, 0}));
  EXPECT_EQ(tokenizer->Encode("a <r>  a").value(), (Ids{0, 7, 4, 0}));
  EXPECT_EQ(tokenizer->Encode("aa aaa").value(), (Ids{5, 7, 0, 0, 0}));
  EXPECT_EQ(tokenizer->Encode("AA").value(), (Ids{0, 0}));
  EXPECT_EQ(tokenizer->Encode("aqQ").value(), (Ids{0, 6, 6}));
}

// Ids of the `tokenizers` library 0.23.3.
TEST(TokenizerTest, DropsATokenWhoseWhiteSpaceTheOneBeforeTook) {
  const auto tokenizer = FromJson(R"({
    "added_tokens": [
      {"id": 1, "content": "  ", "normalized": false, "lstrip": true,
       "rstrip": true},
      {"id": 2, "content": "\t", "normalized": false, "rstrip": true},
      {"id": 3, "content": "<r>", "normalized": false, "rstrip": true},
      {"id": 4, "content": " y", "normalized": false, "lstrip": true}],
    "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}
  })");

  EXPECT_EQ(tokenizer->Encode("a    a").value(), (Ids{0, 1, 0}));
  EXPECT_EQ(tokenizer->Encode("<r>     a").value(), (Ids{3, 0}));
  EXPECT_EQ(tokenizer->Encode("<r>   ya").value(), (Ids{3, 4, 0}));
  EXPECT_EQ(tokenizer->Encode("a\t\ta").value(), (Ids{0, 2, 2, 0}));
}

TEST(TokenizerTest, PutsTheTemplateAroundTheText) {
  const auto tokenizer = FromJson(R"({
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "B", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "E", "type_id": 0}}],
      "pair": [],
      "special_tokens": {"B": {"id": "B", "ids": [1, 2], "tokens": []},
                         "E": {"id": "E", "ids": [3], "tokens": []}}},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3},
              "merges": []}})");

  EXPECT_EQ(tokenizer->Encode("a").value(), (Ids{1, 2, 0, 3}));
  EXPECT_EQ(tokenizer->Encode("a", false).value(), Ids{0});
  EXPECT_EQ(tokenizer->bos_id(), 1);
}

TEST(TokenizerTest, LoadsFromAFolder) {
  const std::string folder = testing::TempDir() + "/tokenizer_test_folder";
  ASSERT_TRUE(MakeDirectories(folder).ok());
  ASSERT_TRUE(WriteFileAtomically(folder + "/tokenizer.json", kByteLevel).ok());

  const auto tokenizer = Tokenizer::Load(folder);

  EXPECT_EQ(tokenizer.value()->vocab_size(), 10);
}

TEST(TokenizerTest, SaysWhenAFolderHasNone) {
  const auto tokenizer = Tokenizer::Load(testing::TempDir() + "/nowhere");

  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(tokenizer.status().message(), HasSubstr("tokenizer.json"));
}

TEST(TokenizerTest, ServesSeveralThreads) {
  const auto tokenizer = FromJson(kByteLevel);
  std::vector<Ids> results(4);

  std::vector<std::thread> threads;
  for (Ids& result : results) {
    threads.emplace_back(
        [&tokenizer, &result] { result = tokenizer->Encode("é a").value(); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }

  EXPECT_THAT(results, testing::Each(Ids{0, 1, 4}));
}

}  // namespace
}  // namespace moescope::model
