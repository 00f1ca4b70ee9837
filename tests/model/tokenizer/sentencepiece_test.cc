// SentencePiece models against the `sentencepiece` library, what stands beside
// them, and damaged ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "moescope/base/file.h"
#include "moescope/model/tokenizer.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using Ids = std::vector<std::int32_t>;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

constexpr const char* kBare =
    R"({"add_bos_token": false, "add_eos_token": false})";

std::string ReadTestData(const std::string& name) {
  return ReadFile(MOESCOPE_SOURCE_DIR "/tests/testdata/tokenizer/" + name,
                  1 << 20)
      .value();
}

TokenizerPtr Load(const std::string& name, const std::string& config,
                  const std::string& added = "") {
  return Tokenizer::FromSentencePiece(ReadTestData(name + ".model"), config,
                                      added)
      .value();
}

class SentencePieceGoldenTest : public testing::TestWithParam<const char*> {
 protected:
  const TokenizerPtr tokenizer_ = Load(GetParam(), kBare);
  const nlohmann::json expected_ = nlohmann::json::parse(
      ReadTestData(std::string(GetParam()) + ".model.expected.json"));
};

TEST_P(SentencePieceGoldenTest, EncodesAsTheLibrary) {
  const auto texts = nlohmann::json::parse(ReadTestData("texts.json"))
                         .get<std::vector<std::string>>();
  std::vector<Ids> ids;
  for (const std::string& text : texts) {
    ids.push_back(tokenizer_->Encode(text).value());
  }

  EXPECT_THAT(ids, ElementsAreArray(expected_["ids"].get<std::vector<Ids>>()));
}

TEST_P(SentencePieceGoldenTest, DecodesAsTheLibrary) {
  std::vector<std::string> texts;
  for (const Ids& ids : expected_["ids"].get<std::vector<Ids>>()) {
    texts.push_back(tokenizer_->Decode(ids).value());
  }

  EXPECT_THAT(texts, ElementsAreArray(
                         expected_["decoded"].get<std::vector<std::string>>()));
}

TEST_P(SentencePieceGoldenTest, HasTheLibrarysSizeAndBos) {
  EXPECT_EQ(tokenizer_->vocab_size(), expected_["size"].get<std::int32_t>());
  EXPECT_EQ(Load(GetParam(), "")->bos_id(),
            expected_["bos"].get<std::int32_t>());
}

INSTANTIATE_TEST_SUITE_P(Files, SentencePieceGoldenTest,
                         testing::Values("bytes_unigram", "llama_bpe",
                                         "nfkc_unigram", "plain_bpe"),
                         [](const auto& row) { return std::string(row.param); });

TEST(SentencePieceTest, PutsBosFirstUnlessToldOtherwise) {
  const Ids bare = Load("llama_bpe", kBare)->Encode("Hello").value();
  Ids with_bos = {1};
  with_bos.insert(with_bos.end(), bare.begin(), bare.end());
  Ids with_both = with_bos;
  with_both.push_back(2);

  EXPECT_EQ(Load("llama_bpe", "")->Encode("Hello").value(), with_bos);
  EXPECT_EQ(Load("llama_bpe", R"({"add_eos_token": true})")
                ->Encode("Hello")
                .value(),
            with_both);
  EXPECT_EQ(Load("llama_bpe", "")->Encode("Hello", false).value(), bare);
  EXPECT_EQ(Load("llama_bpe", kBare)->bos_id(), std::nullopt);
  EXPECT_EQ(Load("llama_bpe", R"({"add_bos_token": null})")->bos_id(),
            std::nullopt);
}

TEST(SentencePieceTest, TakesBosFromTheConfiguration) {
  const TokenizerPtr tokenizer =
      Load("llama_bpe", R"({"bos_token": {"content": "</s>"}})");

  EXPECT_EQ(tokenizer->bos_id(), 2);
}

TEST(SentencePieceTest, FindsAddedTokensInTheText) {
  const std::string config = R"({"add_bos_token": false,
      "added_tokens_decoder": {"1": {"content": "<s>"},
                               "2": {"content": "</s>", "rstrip": true}}})";
  const TokenizerPtr tokenizer =
      Load("llama_bpe", config, R"({"<extra>": 900})");
  const Ids word = tokenizer->Encode("Hello").value();

  Ids expected = {1};
  expected.insert(expected.end(), word.begin(), word.end());
  expected.insert(expected.end(), {2, 900});
  EXPECT_EQ(tokenizer->Encode("<s>Hello</s>  <extra>").value(), expected);
  EXPECT_EQ(tokenizer->vocab_size(), 901);
  EXPECT_EQ(tokenizer->DisplayToken(900), "<extra>");
  EXPECT_EQ(tokenizer->Decode({900, 900}).value(), "<extra><extra>");
}

TEST(SentencePieceTest, ShowsBytesSpacesAndControlPieces) {
  const TokenizerPtr tokenizer = Load("llama_bpe", kBare);

  EXPECT_EQ(tokenizer->DisplayToken(1), "<s>");
  EXPECT_EQ(tokenizer->DisplayToken(3 + 0xE4), "\\xE4");
  EXPECT_EQ(tokenizer->DisplayToken(3 + 0x0A), "\\n");
  EXPECT_EQ(tokenizer->DisplayToken(100'000), "[100000]");
  EXPECT_EQ(tokenizer->DecodeToken(tokenizer->Encode("the").value()[0])[0],
            ' ');
}

TEST(SentencePieceTest, SaysWhatItIs) {
  EXPECT_EQ(Load("llama_bpe", "")->Describe(),
            "SentencePiece BPE, byte fallback, 900 entries");
  EXPECT_EQ(Load("nfkc_unigram", "")->Describe(),
            "SentencePiece unigram, 900 entries");
}

TEST(SentencePieceTest, IsReadWhereThereIsNoJson) {
  const ScratchFolder folder;
  folder.Write("tokenizer.model", ReadTestData("llama_bpe.model"));
  folder.Write("tokenizer_config.json", R"({"add_eos_token": true})");

  const auto tokenizer = Tokenizer::Load(folder.path());

  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT((*tokenizer)->Encode("").value(), ElementsAre(1, 2));
  EXPECT_EQ(Tokenizer::Load(folder / "none").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(SentencePieceTest, ControlPiecesAndAddedTokensCalledSoAreSpecial) {
  const TokenizerPtr bare = Load("llama_bpe", "");
  const std::int32_t next = bare->vocab_size();
  const nlohmann::json config = {
      {"added_tokens_decoder",
       {{std::to_string(next), {{"content", "<m>"}, {"special", true}}},
        {std::to_string(next + 1), {{"content", "<n>"}}}}}};
  const TokenizerPtr tokenizer = Load("llama_bpe", config.dump());

  EXPECT_TRUE(tokenizer->IsSpecial(*tokenizer->bos_id()));
  EXPECT_TRUE(tokenizer->IsSpecial(next));
  EXPECT_FALSE(tokenizer->IsSpecial(next + 1));
  EXPECT_FALSE(tokenizer->IsSpecial(next - 1));
}

TEST(SentencePieceTest, RefusesTextThatIsTooLong) {
  const auto ids =
      Load("llama_bpe", "")->Encode(std::string((8 << 20) + 1, 'a'));

  EXPECT_EQ(ids.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(ids.status().message(), HasSubstr("text: has 8388609 bytes"));
}

absl::Status RefusalOf(const std::string& model, const std::string& config = "",
                       const std::string& added = "") {
  return Tokenizer::FromSentencePiece(model, config, added).status();
}

// A message field of wire type 2.
std::string Bytes(int number, const std::string& value) {
  return std::string(1, static_cast<char>(number << 3 | 2)) +
         static_cast<char>(value.size()) + value;
}
// A piece of some type.
std::string PieceOf(const std::string& text, char type) {
  return Bytes(1, Bytes(1, text) + "\x18" + type);
}

struct Damage {
  const char* name;
  std::string model;
  const char* cause;
};
void PrintTo(const Damage& damage, std::ostream* out) { *out << damage.name; }

class DamagedModelTest : public testing::TestWithParam<Damage> {};

TEST_P(DamagedModelTest, IsRefusedWithTheCause) {
  const absl::Status status = RefusalOf(GetParam().model);

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(status.message(), HasSubstr("tokenizer.model: "));
  EXPECT_THAT(status.message(), HasSubstr(GetParam().cause));
}

INSTANTIATE_TEST_SUITE_P(
    Files, DamagedModelTest,
    testing::Values(
        Damage{"Empty", "", "has no pieces"},
        Damage{"Text", "not a model at all", "is no such file"},
        Damage{"CutShort", PieceOf("<unk>", 2) + "\x0A\x7Fxyz",
               "is no such file, or a damaged one"},
        Damage{"PieceCutShort", PieceOf("<unk>", 2) + Bytes(1, "\x0A\x7Fx"),
               "is damaged in its piece 1"},
        Damage{"NoUnknown", PieceOf("a", 1), "has no unknown piece"},
        Damage{"TwoUnknown", PieceOf("a", 2) + PieceOf("b", 2),
               "has piece 1 that is unknown once more"},
        Damage{"Twice", PieceOf("<unk>", 2) + PieceOf("a", 1) + PieceOf("a", 1),
               "has piece 2 that repeats \"a\""},
        Damage{"EmptyPiece", PieceOf("<unk>", 2) + PieceOf("", 1),
               "has piece 1 that is empty"},
        Damage{"NoUtf8", PieceOf("<unk>", 2) + PieceOf("\xFF", 1),
               "has piece 1 that is not UTF-8"},
        Damage{"Type", PieceOf("<unk>", 9), "has piece 0 that is of type 9"},
        Damage{"LoneByte", PieceOf("<unk>", 2) + PieceOf("<0x41>", 6),
               "has 1 byte pieces and byte_fallback false"},
        Damage{"WrongByte", PieceOf("<unk>", 2) + PieceOf("<0x4>", 6),
               "is a byte, but not spelled as one"},
        Damage{"CharacterMap",
               PieceOf("<unk>", 2) + Bytes(3, Bytes(2, "\x09\x01\x01\x01zz")),
               "precompiled_charsmap says that"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(SentencePieceTest, NamesWhatItCannotRead) {
  const std::string words = PieceOf("<unk>", 2) + Bytes(2, "\x18\x03");
  const std::string suffix = PieceOf("<unk>", 2) + Bytes(2, "\xC0\x01\x01");

  EXPECT_EQ(RefusalOf(words).code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(RefusalOf(words).message(), HasSubstr("model type 3"));
  EXPECT_EQ(RefusalOf(suffix).code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(RefusalOf(suffix).message(),
              HasSubstr("treat_whitespace_as_suffix"));
}

TEST(SentencePieceTest, RefusesFilesBesideItThatContradictIt) {
  const std::string model = ReadTestData("llama_bpe.model");

  EXPECT_THAT(RefusalOf(model, "{").message(),
              HasSubstr("tokenizer_config.json: not valid JSON"));
  EXPECT_THAT(RefusalOf(model, R"({"bos_token": "<none>"})").message(),
              HasSubstr("bos_token \"<none>\" is no token"));
  EXPECT_THAT(RefusalOf(model, "", R"({"<s>": 7})").message(),
              HasSubstr("\"<s>\" has id 7, but 1 in tokenizer.model"));
  EXPECT_THAT(RefusalOf(model, "", R"({"<new>": 7})").message(),
              HasSubstr("which is another piece"));
  EXPECT_THAT(RefusalOf(model, "", R"({"<new>": -7})").message(),
              HasSubstr("is not an integer in"));
  EXPECT_EQ(RefusalOf(model, "", R"({"<s>": 7})").code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace moescope::model
