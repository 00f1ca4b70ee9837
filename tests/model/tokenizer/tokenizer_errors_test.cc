// Files that must be refused: with a code that says why, and by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

#include "moescope/base/file.h"
#include "moescope/model/tokenizer.h"

namespace moescope::model {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr char kModel[] =
    R"("model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []})";

absl::Status Refusal(absl::string_view json) {
  return Tokenizer::FromJson(json).status();
}

// The refusal of a good model with `part` beside it.
absl::Status RefusalOf(absl::string_view part) {
  return Refusal(absl::StrCat("{", part, ", ", kModel, "}"));
}

absl::Status RefusalOfModel(absl::string_view fields) {
  return Refusal(absl::StrCat(R"({"model": {"type": "BPE", )", fields, "}}"));
}

struct Case {
  const char* name;
  const char* part;
  const char* message;
};

std::string NameOf(const testing::TestParamInfo<Case>& info) {
  return info.param.name;
}

class UnsupportedPartTest : public testing::TestWithParam<Case> {};

TEST_P(UnsupportedPartTest, IsRefusedByName) {
  const absl::Status status = RefusalOf(GetParam().part);

  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr(GetParam().message));
  EXPECT_THAT(status.message(), HasSubstr("send token ids instead"));
}

INSTANTIATE_TEST_SUITE_P(
    Parts, UnsupportedPartTest,
    testing::Values(
        Case{"PreTokenizer", R"("pre_tokenizer": {"type": "Foo"})",
             "tokenizer.json: pre_tokenizer \"Foo\" is not supported"},
        Case{"NestedPreTokenizer",
             R"("pre_tokenizer": {"type": "Sequence",
                 "pretokenizers": [{"type": "BertPreTokenizer"}]})",
             "pre_tokenizer.pretokenizers[0] \"BertPreTokenizer\""},
        Case{"Normalizer", R"("normalizer": {"type": "BertNormalizer"})",
             "normalizer \"BertNormalizer\""},
        Case{"PostProcessor", R"("post_processor": {"type": "BertProcessing"})",
             "post_processor \"BertProcessing\""},
        Case{"RobertaProcessing",
             R"("post_processor": {"type": "RobertaProcessing"})",
             "post_processor \"RobertaProcessing\""},
        Case{"Decoder", R"("decoder": {"type": "WordPiece"})",
             "decoder \"WordPiece\""},
        Case{"Option",
             R"("pre_tokenizer": {"type": "ByteLevel",
                 "add_prefix_space": false, "new": 1})",
             "option pre_tokenizer.new"},
        Case{"Regex",
             R"("pre_tokenizer": {"type": "Split", "pattern":
                 {"Regex": "\\Qx"}, "behavior": "Isolated"})",
             "pre_tokenizer.pattern (regex \"\\Qx\""},
        Case{"Behavior",
             R"("pre_tokenizer": {"type": "Split", "pattern":
                 {"String": "x"}, "behavior": "Odd"})",
             "pre_tokenizer.behavior \"Odd\""},
        Case{"TopLevelOption", R"("extra": {})", "option .extra"}),
    NameOf);

class BrokenPartTest : public testing::TestWithParam<Case> {};

TEST_P(BrokenPartTest, IsRefusedWithItsCause) {
  const absl::Status status = RefusalOf(GetParam().part);

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("tokenizer.json: "));
  EXPECT_THAT(status.message(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Parts, BrokenPartTest,
    testing::Values(
        Case{"NoType", R"("normalizer": {})", "normalizer has no \"type\""},
        Case{"NotAnObject", R"("normalizer": 3)",
             "normalizer is not an object"},
        Case{"WrongType",
             R"("pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": 1})",
             "pre_tokenizer.add_prefix_space is not a boolean"},
        Case{"AddedTokenWithAnotherId",
             R"("added_tokens": [{"id": 1, "content": "a"}])",
             "gives id 1 to \"a\", the vocabulary 0"},
        Case{"AddedTokenWithATakenId",
             R"("added_tokens": [{"id": 1, "content": "c"}])",
             "gives id 1 to \"c\", the vocabulary to \"b\""},
        Case{"AddedTokenTwice",
             R"("added_tokens": [{"id": 2, "content": "c"},
                                 {"id": 2, "content": "d"}])",
             "added_tokens[1] repeats"},
        Case{"NegativeId", R"("added_tokens": [{"id": -1, "content": "c"}])",
             "added_tokens[0].id is not an integer in [0, 1048575]"},
        Case{"TemplateOfAnUnknownToken",
             R"("post_processor": {"type": "TemplateProcessing", "single":
                 [{"SpecialToken": {"id": "X"}}], "special_tokens": {}})",
             "special_tokens has no \"X\""},
        Case{"TemplateIdBeyondTheVocabulary",
             R"("post_processor": {"type": "TemplateProcessing", "single":
                 [{"SpecialToken": {"id": "X"}}],
                 "special_tokens": {"X": {"ids": [2]}}})",
             "is not an integer in [0, 1]"},
        Case{"TemplateOfASecondText",
             R"("post_processor": {"type": "TemplateProcessing", "single":
                 [{"Sequence": {"id": "B"}}], "special_tokens": {}})",
             "sequence \"B\""},
        Case{"MetaspaceThatContradictsItself",
             R"("pre_tokenizer": {"type": "Metaspace", "replacement": "_",
                 "add_prefix_space": false, "prepend_scheme": "always"})",
             "add_prefix_space false and prepend_scheme \"always\""},
        Case{"MetaspaceOfTwoCharacters",
             R"("pre_tokenizer": {"type": "Metaspace", "replacement": "__"})",
             "replacement is not one character"}),
    NameOf);

TEST(BrokenTokenizerTest, RefusesWhatIsNotJson) {
  EXPECT_EQ(Refusal("").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Refusal("[]").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Refusal("{\"model\":").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Refusal("{\"model\":").message(),
            "tokenizer.json: not valid JSON near byte 10");
  EXPECT_EQ(Refusal(std::string("{}\0", 3)).message(),
            "tokenizer.json: not valid JSON near byte 3");
}

TEST(BrokenTokenizerTest, RefusesBrokenBytesWithoutQuotingThem) {
  EXPECT_EQ(Refusal("{\"\xC3").message(),
            "tokenizer.json: not valid JSON near byte 4");
}

TEST(BrokenTokenizerTest, RefusesATokenThatStandsTwice) {
  EXPECT_EQ(
      RefusalOfModel(R"("vocab": {"a": 0, "a": 1}, "merges": [])").message(),
      "tokenizer.json: key \"a\" stands twice");
}

// 13 MB of text that would take 400 MB.
TEST(BrokenTokenizerTest, RefusesWhatWouldTakeTooMuchMemory) {
  std::string json = "{\"added_tokens\": [{}";
  for (int i = 0; i < 4'500'000; ++i) json += ",{}";

  const absl::Status status = Refusal(json + "]}");

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(),
            "tokenizer.json: takes more than 201326592 bytes of memory");
}

TEST(BrokenTokenizerTest, RefusesDeepJson) {
  const absl::Status status = Refusal(std::string(100'000, '['));

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("deeper than 32"));
}

TEST(BrokenTokenizerTest, RefusesAFileWithoutModel) {
  EXPECT_THAT(Refusal("{}").message(), HasSubstr("has no \"model\""));
}

TEST(BrokenTokenizerTest, RefusesAMergeOfAnUnknownToken) {
  const absl::Status status =
      RefusalOfModel(R"("vocab": {"a": 0}, "merges": ["a b"])");

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("\"b\" is not in the vocabulary"));
}

TEST(BrokenTokenizerTest, RefusesAMergeIntoAnUnknownToken) {
  const absl::Status status =
      RefusalOfModel(R"("vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]])");

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("\"ab\" is not in the vocabulary"));
}

TEST(BrokenTokenizerTest, RefusesAMergeOfThreeTokens) {
  EXPECT_THAT(
      RefusalOfModel(R"("vocab": {"a": 0}, "merges": ["a a a"])").message(),
      HasSubstr("model.merges[0] is \"a a a\", not two tokens"));
}

TEST(BrokenTokenizerTest, RefusesTwoTokensWithOneId) {
  const absl::Status status =
      RefusalOfModel(R"("vocab": {"a": 7, "b": 7}, "merges": [])");

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("id 7 to both \"a\" and \"b\""));
}

TEST(BrokenTokenizerTest, NamesTheFile) {
  const std::string folder = testing::TempDir() + "/broken_tokenizer_folder";
  ASSERT_TRUE(MakeDirectories(folder).ok());
  ASSERT_TRUE(WriteFileAtomically(folder + "/tokenizer.json", "{").ok());

  const absl::Status status = Tokenizer::Load(folder).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), StartsWith("tokenizer.json: "));
}

TEST(UnsupportedModelTest, IsRefusedByName) {
  const absl::Status status =
      Refusal(R"({"model": {"type": "Unigram", "vocab": []}})");

  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("model \"Unigram\""));
}

TEST(UnsupportedModelTest, RefusesOptionsThatChangeTheIds) {
  EXPECT_THAT(
      RefusalOfModel(R"("dropout": 0.1, "vocab": {}, "merges": [])").message(),
      HasSubstr("model.dropout"));
  EXPECT_THAT(
      RefusalOfModel(R"("end_of_word_suffix": "</w>", "vocab": {}, "merges":
                        [])")
          .message(),
      HasSubstr("model.end_of_word_suffix \"</w>\""));
  EXPECT_THAT(RefusalOfModel(R"("continuing_subword_prefix": "##", "vocab": {},
                        "merges": [])")
                  .message(),
              HasSubstr("model.continuing_subword_prefix \"##\""));
}

}  // namespace
}  // namespace moescope::model
