// What a tokenizer_config.json beside a tokenizer.json says of BOS and EOS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "moescope/base/file.h"
#include "moescope/model/tokenizer.h"

namespace moescope::model {
namespace {

using Ids = std::vector<std::int32_t>;
using testing::HasSubstr;

std::string ReadTestData(const std::string& name) {
  return ReadFile(MOESCOPE_SOURCE_DIR "/tests/testdata/tokenizer/" + name,
                  1 << 20)
      .value();
}

nlohmann::json Configured() {
  return nlohmann::json::parse(ReadTestData("configured.json"));
}

// One case of configured.json.
class ConfiguredTokenizerTest
    : public testing::TestWithParam<nlohmann::json> {};

TEST_P(ConfiguredTokenizerTest, PutsTheTokensOfAutoTokenizerAround) {
  const auto tokenizer =
      Tokenizer::FromJson(
          ReadTestData(absl::StrCat(
              GetParam()["tokenizer"].get<std::string>(), ".json")),
          GetParam()["config"].dump())
          .value();

  EXPECT_EQ(
      tokenizer->Encode(Configured()["text"].get<std::string>()).value(),
      GetParam()["ids"].get<Ids>());
}

INSTANTIATE_TEST_SUITE_P(
    Cases, ConfiguredTokenizerTest,
    testing::ValuesIn(Configured()["cases"].get<std::vector<nlohmann::json>>()),
    [](const auto& test) {
      return test.param["name"].template get<std::string>();
    });

// <s> is 0, </s> 1, a 2; <s> before the text, without a tokenizer_config.json.
constexpr char kTemplate[] = R"({
  "added_tokens": [{"id": 0, "content": "<s>"}, {"id": 1, "content": "</s>"}],
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
    "special_tokens": {"<s>": {"ids": [0]}}},
  "model": {"type": "BPE", "vocab": {"a": 2, "b": 3}, "merges": []}})";

std::shared_ptr<const Tokenizer> FromConfig(absl::string_view config) {
  return Tokenizer::FromJson(kTemplate, config).value();
}

TEST(TokenizerConfigTest, BosIdIsTheTokenBeforeTheText) {
  EXPECT_EQ(FromConfig("")->bos_id(), 0);
  EXPECT_EQ(FromConfig(R"({"tokenizer_class": "GPTNeoXTokenizer"})")->bos_id(),
            std::nullopt);
  EXPECT_EQ(FromConfig(R"({"tokenizer_class": "LlamaTokenizer",
                           "bos_token": "</s>"})")
                ->bos_id(),
            1);
  EXPECT_EQ(FromConfig(R"({"tokenizer_class": "LlamaTokenizer",
                           "add_bos_token": false, "add_eos_token": true})")
                ->bos_id(),
            std::nullopt);
}

TEST(TokenizerConfigTest, TokensAroundAreLeftOutWhenAsked) {
  const auto tokenizer = FromConfig(
      R"({"tokenizer_class": "LlamaTokenizer", "add_eos_token": true})");

  EXPECT_EQ(tokenizer->Encode("a").value(), (Ids{0, 2, 1}));
  EXPECT_EQ(tokenizer->Encode("a", /*add_special_tokens=*/false).value(),
            Ids{2});
}

TEST(TokenizerConfigTest, ATokenOfTheVocabularyNeedNotBeAnAddedOne) {
  const auto tokenizer =
      FromConfig(R"({"tokenizer_class": "LlamaTokenizer", "bos_token": "b"})");

  EXPECT_EQ(tokenizer->Encode("a").value(), (Ids{3, 2}));
}

TEST(TokenizerConfigTest, AFileThatNamesNoClassKeepsThePostProcessor) {
  EXPECT_EQ(FromConfig(R"({"add_bos_token": false})")->Encode("a").value(),
            (Ids{0, 2}));
  EXPECT_EQ(
      FromConfig(R"({"tokenizer_class": null, "add_bos_token": false})")
          ->Encode("a")
          .value(),
      (Ids{0, 2}));
}

TEST(TokenizerConfigTest, APostProcessorThatIsReplacedIsNotRead) {
  const auto tokenizer = Tokenizer::FromJson(
      R"({"post_processor": {"type": "RobertaProcessing"},
          "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1},
                    "merges": []}})",
      R"({"tokenizer_class": "LlamaTokenizerFast"})");

  EXPECT_EQ(tokenizer.value()->Encode("a").value(), (Ids{0, 1}));
}

struct Refused {
  const char* name;
  const char* config;
  const char* message;
};

void PrintTo(const Refused& refused, std::ostream* out) {
  *out << refused.name;
}

class RefusedConfigTest : public testing::TestWithParam<Refused> {};

TEST_P(RefusedConfigTest, NamesTheFileAndTheKey) {
  const absl::Status status =
      Tokenizer::FromJson(kTemplate, GetParam().config).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(),
            absl::StrCat("tokenizer_config.json: ", GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Configs, RefusedConfigTest,
    testing::Values(
        Refused{"NullBos",
                R"({"tokenizer_class": "LlamaTokenizer", "bos_token": null})",
                "bos_token is null; it must name a token, or add_bos_token "
                "must be false"},
        Refused{"NullEos",
                R"({"tokenizer_class": "LlamaTokenizer", "eos_token": null,
                    "add_eos_token": true})",
                "eos_token is null; it must name a token, or add_eos_token "
                "must be false"},
        Refused{"UnknownBos",
                R"({"tokenizer_class": "LlamaTokenizer", "bos_token": "<x>"})",
                "bos_token \"<x>\" is no token of tokenizer.json"},
        Refused{"UnknownEosOfTheClass",
                R"({"tokenizer_class": "GPTNeoXTokenizer",
                    "add_eos_token": true})",
                "eos_token \"<|endoftext|>\" is no token of tokenizer.json"},
        Refused{"BosOfAnotherType",
                R"({"tokenizer_class": "LlamaTokenizer", "bos_token": 1})",
                "bos_token is not a string but number"},
        Refused{"BosWithoutContent",
                R"({"tokenizer_class": "LlamaTokenizer", "bos_token": {}})",
                "bos_token has no \"content\""},
        Refused{"FlagOfAnotherType",
                R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": 1})",
                "add_bos_token is not a boolean but number"},
        Refused{"ClassOfAnotherType", R"({"tokenizer_class": []})",
                "tokenizer_class is not a string but array"},
        Refused{"NoObject", "[]", "not a JSON object"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(TokenizerConfigTest, RefusesAFileAbove16Mib) {
  const absl::Status status =
      Tokenizer::FromJson(kTemplate, std::string((16 << 20) + 1, ' ')).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("tokenizer_config.json"));
}

class TokenizerFolderTest : public testing::Test {
 protected:
  TokenizerFolderTest() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    Write("tokenizer.json", kTemplate);
  }

  void Write(const std::string& name, absl::string_view text) const {
    std::ofstream(absl::StrCat(folder_, "/", name)) << text;
  }

  const std::string folder_ = absl::StrCat(
      testing::TempDir(), "/",
      testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(TokenizerFolderTest, LoadReadsTheConfigBesideTokenizerJson) {
  Write("tokenizer_config.json",
        R"({"tokenizer_class": "LlamaTokenizer", "bos_token": "</s>"})");

  EXPECT_EQ(Tokenizer::Load(folder_).value()->Encode("a").value(), (Ids{1, 2}));
}

TEST_F(TokenizerFolderTest, TheMapOfSpecialTokensComesBeforeAnOlderConfig) {
  Write("tokenizer_config.json",
        R"({"tokenizer_class": "LlamaTokenizer", "add_eos_token": true,
            "bos_token": "<s>"})");
  Write("special_tokens_map.json",
        R"({"bos_token": {"content": "</s>", "lstrip": false},
            "eos_token": "b", "unk_token": "<unk>"})");

  EXPECT_EQ(Tokenizer::Load(folder_).value()->Encode("a").value(),
            (Ids{1, 2, 3}));
}

TEST_F(TokenizerFolderTest, TheMapOfSpecialTokensCountsForNothingBesideANewOne) {
  Write("tokenizer_config.json",
        R"({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>",
            "added_tokens_decoder": {}})");
  Write("special_tokens_map.json", R"({"bos_token": "</s>"})");

  EXPECT_EQ(Tokenizer::Load(folder_).value()->Encode("a").value(), (Ids{0, 2}));
}

TEST_F(TokenizerFolderTest, TheMapOfSpecialTokensNamesNoClass) {
  Write("special_tokens_map.json", R"({"bos_token": "</s>"})");

  EXPECT_EQ(Tokenizer::Load(folder_).value()->Encode("a").value(), (Ids{0, 2}));
}

TEST_F(TokenizerFolderTest, WhatIsWrongInTheMapOfSpecialTokensNamesIt) {
  Write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  Write("special_tokens_map.json", R"({"bos_token": "<x>"})");
  const absl::Status unknown = Tokenizer::Load(folder_).status();
  Write("special_tokens_map.json", "[]");
  const absl::Status no_object = Tokenizer::Load(folder_).status();

  EXPECT_EQ(unknown.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(unknown.message(),
            "with special_tokens_map.json: tokenizer_config.json: bos_token "
            "\"<x>\" is no token of tokenizer.json");
  EXPECT_EQ(no_object.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(no_object.message(), HasSubstr("special_tokens_map.json: "));
}

TEST_F(TokenizerFolderTest, LoadNeedsNoConfig) {
  EXPECT_EQ(Tokenizer::Load(folder_).value()->Encode("a").value(), (Ids{0, 2}));
}

TEST_F(TokenizerFolderTest, LoadRefusesAnEmptyConfig) {
  Write("tokenizer_config.json", "");

  const absl::Status status = Tokenizer::Load(folder_).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "tokenizer_config.json: is empty");
}

}  // namespace
}  // namespace moescope::model
