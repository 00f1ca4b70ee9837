#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/model/tokenizer/added_tokens_internal.h"
#include "server/model/tokenizer/bpe_internal.h"
#include "server/model/tokenizer/decoder_internal.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/normalizer_internal.h"
#include "server/model/tokenizer/post_processor_internal.h"
#include "server/model/tokenizer/pre_tokenizer_internal.h"
#include "server/model/tokenizer/text_codec_internal.h"
#include "server/model/tokenizer/tokenizer_config_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

class JsonCodec final : public TextCodec {
 public:
  // "post_processor" is left out where it is going to be replaced.
  static absl::StatusOr<std::unique_ptr<JsonCodec>> Parse(
      const nlohmann::json& document, bool with_post_processor);
  // Makes `around` the post-processor.
  absl::Status PutAround(const BosEos& around);

  absl::StatusOr<std::vector<std::int32_t>> Encode(
      absl::string_view text, bool add_special_tokens) const override;
  bool HasToken(std::int32_t id) const override {
    return Spelling(id) != nullptr;
  }
  bool IsSpecial(std::int32_t id) const override {
    const AddedToken* const token = added_.Find(id);
    return token != nullptr && token->special;
  }
  std::string DecodeToken(std::int32_t id) const override;
  absl::StatusOr<std::string> Decode(
      absl::Span<const std::int32_t> ids) const override;
  std::int32_t vocab_size() const override { return vocab_size_; }
  std::optional<std::int32_t> bos_id() const override {
    return post_processor_.FirstSpecial();
  }
  std::string Describe() const override;

 private:
  // The token as the file spells it; null for an id without one.
  const std::string* Spelling(std::int32_t id) const {
    const AddedToken* const token = added_.Find(id);
    return token != nullptr ? &token->normalized_content : model_->Token(id);
  }
  // The id of `token`, which `key` of tokenizer_config.json names.
  absl::StatusOr<std::int32_t> IdOf(const std::string& token,
                                    absl::string_view key) const;
  absl::StatusOr<std::vector<std::int32_t>> EncodePiece(
      Piece piece, const RegexBudget& budget) const;

  std::unique_ptr<const Bpe> model_;
  std::unique_ptr<const Normalizer> normalizer_;
  std::unique_ptr<const PreTokenizer> pre_tokenizer_;
  AddedTokens added_;
  PostProcessor post_processor_;
  Decoder decoder_;
  std::int32_t vocab_size_ = 0;
  std::size_t num_tokens_ = 0;
};

absl::StatusOr<std::unique_ptr<JsonCodec>> JsonCodec::Parse(
    const nlohmann::json& document, bool with_post_processor) {
  const JsonNode root(document, "");
  MOESCOPE_RETURN_IF_ERROR(root.OnlyHas(
      {"version", "truncation", "padding", "added_tokens", "normalizer",
       "pre_tokenizer", "post_processor", "decoder", "model"}));
  const nlohmann::json null;
  const auto component = [&](const char* key) {
    const auto found = document.find(key);
    return JsonNode(found == document.end() ? null : *found, key);
  };
  auto codec = std::make_unique<JsonCodec>();
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode model, root.Get("model"));
  MOESCOPE_ASSIGN_OR_RETURN(codec->model_, Bpe::Parse(model));
  MOESCOPE_ASSIGN_OR_RETURN(codec->normalizer_,
                            ParseNormalizer(component("normalizer")));
  MOESCOPE_ASSIGN_OR_RETURN(codec->pre_tokenizer_,
                            ParsePreTokenizer(component("pre_tokenizer")));
  MOESCOPE_ASSIGN_OR_RETURN(
      codec->added_,
      AddedTokens::Parse(root, *codec->model_, codec->normalizer_.get()));
  codec->vocab_size_ = codec->model_->size();
  for (const AddedToken& token : codec->added_.tokens()) {
    codec->vocab_size_ = std::max(codec->vocab_size_, token.id + 1);
  }
  for (std::int32_t id = 0; id < codec->vocab_size_; ++id) {
    codec->num_tokens_ += codec->HasToken(id) ? 1 : 0;
  }
  if (with_post_processor) {
    MOESCOPE_ASSIGN_OR_RETURN(
        codec->post_processor_,
        PostProcessor::Parse(component("post_processor"), codec->vocab_size_));
  }
  MOESCOPE_ASSIGN_OR_RETURN(codec->decoder_,
                            Decoder::Parse(component("decoder")));
  return codec;
}

absl::StatusOr<std::int32_t> JsonCodec::IdOf(const std::string& token,
                                             absl::string_view key) const {
  const auto added = added_.FindContent(token);
  if (added.has_value()) return *added;
  const auto id = model_->Find(token);
  if (id.has_value()) return *id;
  return BrokenTokenizer(
      absl::StrCat("tokenizer_config.json: ", key),
      absl::StrCat("\"", token, "\" is no token of tokenizer.json"));
}

absl::Status JsonCodec::PutAround(const BosEos& around) {
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  if (around.add_bos) {
    MOESCOPE_ASSIGN_OR_RETURN(bos, IdOf(*around.bos_token, "bos_token"));
  }
  if (around.add_eos) {
    MOESCOPE_ASSIGN_OR_RETURN(eos, IdOf(*around.eos_token, "eos_token"));
  }
  post_processor_ = PostProcessor::Around(bos, eos);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::int32_t>> JsonCodec::EncodePiece(
    Piece piece, const RegexBudget& budget) const {
  std::vector<Piece> words;
  words.push_back(std::move(piece));
  if (pre_tokenizer_ != nullptr) {
    MOESCOPE_ASSIGN_OR_RETURN(words,
                              pre_tokenizer_->Apply(std::move(words), budget));
  }
  std::vector<std::int32_t> ids;
  for (const Piece& word : words) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int32_t> word_ids,
                              model_->Encode(word.text));
    ids.insert(ids.end(), word_ids.begin(), word_ids.end());
  }
  return ids;
}

absl::StatusOr<std::vector<std::int32_t>> JsonCodec::Encode(
    absl::string_view text, bool add_special_tokens) const {
  const RegexBudget budget;
  std::vector<std::int32_t> ids;
  for (Segment& segment : added_.SplitRaw(text)) {
    if (segment.id.has_value()) {
      ids.push_back(*segment.id);
      continue;
    }
    Piece piece = std::move(segment.piece);
    if (normalizer_ != nullptr) {
      MOESCOPE_ASSIGN_OR_RETURN(piece,
                                normalizer_->Apply(std::move(piece), budget));
    }
    for (Segment& part : added_.SplitNormalized(std::move(piece))) {
      if (part.id.has_value()) {
        ids.push_back(*part.id);
        continue;
      }
      MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int32_t> part_ids,
                                EncodePiece(std::move(part.piece), budget));
      ids.insert(ids.end(), part_ids.begin(), part_ids.end());
    }
  }
  return post_processor_.Apply(std::move(ids), add_special_tokens);
}

std::string JsonCodec::DecodeToken(std::int32_t id) const {
  const AddedToken* const added = added_.Find(id);
  if (added != nullptr) {
    return added->content;
  }
  const std::string* const token = model_->Token(id);
  return token == nullptr ? "" : decoder_.DecodeOne(*token);
}

absl::StatusOr<std::string> JsonCodec::Decode(
    absl::Span<const std::int32_t> ids) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    tokens.push_back(*Spelling(id));
  }
  return decoder_.Decode(std::move(tokens));
}

std::string JsonCodec::Describe() const {
  const absl::string_view kind = decoder_.is_byte_level() ? "byte-level, "
                                 : model_->byte_fallback() ? "byte fallback, "
                                                           : "";
  return absl::StrCat("BPE, ", kind, num_tokens_, " entries");
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TextCodec>> ParseJsonCodec(
    absl::string_view tokenizer_json, absl::string_view tokenizer_config_json) {
  std::optional<BosEos> around;
  if (!tokenizer_config_json.empty()) {
    auto read = ReadRebuiltPostProcessor(tokenizer_config_json);
    if (!read.ok()) return Annotate(read.status(), "tokenizer_config.json");
    around = *std::move(read);
  }
  const auto document = ParseJson(tokenizer_json);
  if (!document.ok()) return Annotate(document.status(), "tokenizer.json");
  auto codec = JsonCodec::Parse(*document, !around.has_value());
  if (!codec.ok()) return Annotate(codec.status(), "tokenizer.json");
  if (around.has_value()) {
    MOESCOPE_RETURN_IF_ERROR((*codec)->PutAround(*around));
  }
  return std::unique_ptr<const TextCodec>(*std::move(codec));
}

}  // namespace moescope::model::internal
