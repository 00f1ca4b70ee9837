// Ids and texts that the `tokenizers` library gives, or AutoTokenizer where a
// tokenizer_config.json stands beside, for small tokenizer.json files whose
// parts are those of well-known models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "moescope/base/file.h"
#include "moescope/model/tokenizer.h"

namespace moescope::model {
namespace {

using Ids = std::vector<std::int32_t>;

std::string ReadTestData(const std::string& name) {
  return ReadFile(MOESCOPE_SOURCE_DIR "/tests/testdata/tokenizer/" + name,
                  1 << 20)
      .value();
}

std::string ReadConfigIfThere(const std::string& name) {
  return ReadFile(MOESCOPE_SOURCE_DIR "/tests/testdata/tokenizer/" + name +
                      ".tokenizer_config.json",
                  1 << 20)
      .value_or("");
}

std::vector<std::string> Texts() {
  return nlohmann::json::parse(ReadTestData("texts.json"))
      .get<std::vector<std::string>>();
}

std::vector<Ids> EncodeAll(const Tokenizer& tokenizer,
                           const std::vector<std::string>& texts) {
  std::vector<Ids> all;
  for (const std::string& text : texts) {
    all.push_back(tokenizer.Encode(text).value());
  }
  return all;
}

std::vector<std::string> DecodeAll(const Tokenizer& tokenizer,
                                   const std::vector<Ids>& all_ids) {
  std::vector<std::string> all;
  for (const Ids& ids : all_ids) {
    all.push_back(tokenizer.Decode(ids).value());
  }
  return all;
}

class TokenizerGoldenTest : public testing::TestWithParam<const char*> {
 protected:
  const std::shared_ptr<const Tokenizer> tokenizer_ =
      Tokenizer::FromJson(ReadTestData(std::string(GetParam()) + ".json"),
                          ReadConfigIfThere(GetParam()))
          .value();
  const nlohmann::json expected_ = nlohmann::json::parse(
      ReadTestData(std::string(GetParam()) + ".expected.json"));
};

TEST_P(TokenizerGoldenTest, EncodesAsTheLibrary) {
  EXPECT_THAT(
      EncodeAll(*tokenizer_, Texts()),
      testing::ElementsAreArray(expected_["ids"].get<std::vector<Ids>>()));
}

TEST_P(TokenizerGoldenTest, DecodesAsTheLibrary) {
  EXPECT_THAT(DecodeAll(*tokenizer_, expected_["ids"].get<std::vector<Ids>>()),
              testing::ElementsAreArray(
                  expected_["decoded"].get<std::vector<std::string>>()));
}

INSTANTIATE_TEST_SUITE_P(
    Files, TokenizerGoldenTest,
    testing::Values("class_intersection", "dbrx", "deepseek_llm", "gpt_oss",
                    "llama4", "metaspace_first", "metaspace_never",
                    "mixtral_metaspace", "nested_class", "nfc_added_tokens",
                    "olmoe", "phi", "prepend_replace", "split_by_case",
                    "split_sequence", "split_three_digits", "split_three_stage",
                    "strip_accents_template", "whitespace_punctuation"),
    [](const auto& test) { return std::string(test.param); });

TEST(TokenizerTinyModelTest, EncodesAsTheModelsWereTrained) {
  const auto tokenizer = Tokenizer::FromJson(ReadTestData("../models/tiny-mixtral/tokenizer.json")).value();
  const auto cases = nlohmann::json::parse(ReadTestData("tiny.expected.json"));
  std::vector<std::string> texts;
  std::vector<Ids> expected;
  for (const auto& item : cases) {
    texts.push_back(item["text"]);
    expected.push_back(item["ids"].get<Ids>());
  }

  const std::vector<Ids> ids = EncodeAll(*tokenizer, texts);

  EXPECT_EQ(ids.size(), 133U);
  EXPECT_THAT(ids, testing::ElementsAreArray(expected));
}

TEST(TokenizerTinyModelTest, SaysWhatItIs) {
  const auto tokenizer = Tokenizer::FromJson(ReadTestData("../models/tiny-mixtral/tokenizer.json")).value();

  EXPECT_EQ(tokenizer->Describe(), "BPE, byte-level, 2048 entries");
  EXPECT_EQ(tokenizer->vocab_size(), 2048);
  EXPECT_EQ(tokenizer->bos_id(), 1);
}

TEST(TokenizerTinyModelTest, LeavesSpecialTokensOutWhenAsked) {
  const auto tokenizer = Tokenizer::FromJson(ReadTestData("../models/tiny-mixtral/tokenizer.json")).value();

  EXPECT_EQ(tokenizer->Encode("a", /*add_special_tokens=*/false).value(),
            Ids{67});
  EXPECT_EQ(tokenizer->Encode("", /*add_special_tokens=*/false).value(), Ids{});
}

}  // namespace
}  // namespace moescope::model
