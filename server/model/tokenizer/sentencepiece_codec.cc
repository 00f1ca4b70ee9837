#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/sentencepiece_internal.h"
#include "server/model/tokenizer/text_codec_internal.h"
#include "server/model/tokenizer/tokenizer_config_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

// The segmentation of a whole text is held at once, some 100 bytes a byte.
constexpr std::size_t kMaxTextBytes = std::size_t{8} << 20;

// What tokenizer_config.json and added_tokens.json say beside a model.
struct Surroundings {
  // A token without a name is the model's own.
  BosEos around = {/*add_bos=*/true, /*add_eos=*/false, std::nullopt,
                   std::nullopt};
  std::vector<AddedToken> added;
};

class SentencePieceCodec final : public TextCodec {
 public:
  static absl::StatusOr<std::unique_ptr<const TextCodec>> Create(
      std::unique_ptr<const SentencePieceModel> model,
      Surroundings surroundings);

  absl::StatusOr<std::vector<std::int32_t>> Encode(
      absl::string_view text, bool add_special_tokens) const override;
  bool HasToken(std::int32_t id) const override {
    return added_.Find(id) != nullptr || (id >= 0 && id < model_->size());
  }
  bool IsSpecial(std::int32_t id) const override;
  std::string DecodeToken(std::int32_t id) const override;
  absl::StatusOr<std::string> Decode(
      absl::Span<const std::int32_t> ids) const override;
  std::int32_t vocab_size() const override { return vocab_size_; }
  std::optional<std::int32_t> bos_id() const override { return bos_id_; }
  std::string Describe() const override {
    return absl::StrCat("SentencePiece ", model_->Describe(), ", ", num_tokens_,
                        " entries");
  }

 private:
  // The token with id `id` in front of or behind texts: `name` where the
  // configuration gives one, else the model's own.
  absl::StatusOr<std::optional<std::int32_t>> SpecialId(
      const char* key, const std::optional<std::string>& name,
      std::optional<std::int32_t> own) const;

  std::unique_ptr<const SentencePieceModel> model_;
  AddedTokens added_;
  std::optional<std::int32_t> bos_id_;
  std::optional<std::int32_t> eos_id_;
  std::int32_t vocab_size_ = 0;
  std::int32_t num_tokens_ = 0;
};

absl::Status CheckAdded(const AddedToken& token,
                        const SentencePieceModel& model) {
  const auto own = model.Find(token.content);
  if (own.has_value() && *own != token.id) {
    return BrokenTokenizer(
        "added token", absl::StrCat("\"", token.content, "\" has id ", token.id,
                                    ", but ", *own, " in tokenizer.model"));
  }
  if (!own.has_value() && token.id < model.size()) {
    return BrokenTokenizer(
        "added token",
        absl::StrCat("\"", token.content, "\" has id ", token.id,
                     ", which is another piece in tokenizer.model"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const TextCodec>> SentencePieceCodec::Create(
    std::unique_ptr<const SentencePieceModel> model,
    Surroundings surroundings) {
  auto codec = std::make_unique<SentencePieceCodec>();
  codec->vocab_size_ = model->size();
  codec->num_tokens_ = model->size();
  for (const AddedToken& token : surroundings.added) {
    MOESCOPE_RETURN_IF_ERROR(CheckAdded(token, *model));
    codec->vocab_size_ = std::max(codec->vocab_size_, token.id + 1);
    codec->num_tokens_ += token.id >= model->size() ? 1 : 0;
  }
  codec->model_ = std::move(model);
  codec->added_ = AddedTokens::FromList(std::move(surroundings.added));
  const BosEos& around = surroundings.around;
  if (around.add_bos) {
    MOESCOPE_ASSIGN_OR_RETURN(codec->bos_id_,
                              codec->SpecialId("bos_token", around.bos_token,
                                               codec->model_->bos_id()));
  }
  if (around.add_eos) {
    MOESCOPE_ASSIGN_OR_RETURN(codec->eos_id_,
                              codec->SpecialId("eos_token", around.eos_token,
                                               codec->model_->eos_id()));
  }
  return std::unique_ptr<const TextCodec>(std::move(codec));
}

absl::StatusOr<std::optional<std::int32_t>> SentencePieceCodec::SpecialId(
    const char* key, const std::optional<std::string>& name,
    std::optional<std::int32_t> own) const {
  if (!name.has_value()) return own;
  const auto added = added_.FindContent(*name);
  if (added.has_value()) return added;
  const auto id = model_->Find(*name);
  if (!id.has_value()) {
    return BrokenTokenizer(absl::StrCat("tokenizer_config.json: ", key),
                           absl::StrCat("\"", *name, "\" is no token"));
  }
  return id;
}

absl::StatusOr<std::vector<std::int32_t>> SentencePieceCodec::Encode(
    absl::string_view text, bool add_special_tokens) const {
  if (text.size() > kMaxTextBytes) {
    return FieldError(absl::StatusCode::kResourceExhausted, "text",
                      absl::StrCat("has ", text.size(), " bytes; at most ",
                                   kMaxTextBytes, " for SentencePiece"));
  }
  std::vector<std::int32_t> ids;
  if (add_special_tokens && bos_id_.has_value()) ids.push_back(*bos_id_);
  for (const Segment& segment : added_.SplitRaw(text)) {
    if (segment.id.has_value()) {
      ids.push_back(*segment.id);
      continue;
    }
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int32_t> part,
                              model_->Encode(segment.piece.text));
    ids.insert(ids.end(), part.begin(), part.end());
  }
  if (add_special_tokens && eos_id_.has_value()) ids.push_back(*eos_id_);
  return ids;
}

bool SentencePieceCodec::IsSpecial(std::int32_t id) const {
  const AddedToken* const added = added_.Find(id);
  if (added != nullptr && added->special) return true;
  if (id < 0 || id >= model_->size()) return false;
  const PieceKind kind = model_->pieces()[static_cast<std::size_t>(id)].kind;
  return kind == PieceKind::kControl || kind == PieceKind::kUnknown;
}

std::string SentencePieceCodec::DecodeToken(std::int32_t id) const {
  const AddedToken* const added = added_.Find(id);
  if (added != nullptr) return added->content;
  return HasToken(id) ? model_->DecodeOne(id) : "";
}

absl::StatusOr<std::string> SentencePieceCodec::Decode(
    absl::Span<const std::int32_t> ids) const {
  std::string text;
  std::vector<std::int32_t> run;
  const auto flush = [&] {
    absl::StrAppend(&text, model_->Decode(run));
    run.clear();
  };
  for (const std::int32_t id : ids) {
    if (id < model_->size()) {
      run.push_back(id);
      continue;
    }
    flush();
    absl::StrAppend(&text, added_.Find(id)->content);
  }
  flush();
  return text;
}

absl::StatusOr<AddedToken> ReadAdded(const std::string& key,
                                     const JsonNode& node) {
  AddedToken token;
  if (!absl::SimpleAtoi(key, &token.id) || token.id < 0 ||
      token.id > kMaxTokenId) {
    return BrokenTokenizer(node.path(), "is no token id");
  }
  MOESCOPE_ASSIGN_OR_RETURN(token.content, node.String("content"));
  MOESCOPE_ASSIGN_OR_RETURN(token.single_word, node.Bool("single_word", false));
  MOESCOPE_ASSIGN_OR_RETURN(token.lstrip, node.Bool("lstrip", false));
  MOESCOPE_ASSIGN_OR_RETURN(token.rstrip, node.Bool("rstrip", false));
  MOESCOPE_ASSIGN_OR_RETURN(token.special, node.Bool("special", false));
  return token;
}

absl::Status ReadConfig(const nlohmann::json& document, Surroundings& read) {
  const JsonNode root(document, "");
  MOESCOPE_ASSIGN_OR_RETURN(read.around,
                            ReadBosEos(root, std::move(read.around)));
  if (!root.Has("added_tokens_decoder")) return absl::OkStatus();
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode added,
                            root.Get("added_tokens_decoder"));
  for (const auto& item : added.value().items()) {
    MOESCOPE_ASSIGN_OR_RETURN(
        AddedToken token,
        ReadAdded(item.key(),
                  JsonNode(item.value(),
                           absl::StrCat(added.path(), ".", item.key()))));
    read.added.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// {"<extra>": 32000}
absl::Status ReadAddedTokens(const nlohmann::json& document,
                             Surroundings& read) {
  for (const auto& item : document.items()) {
    AddedToken token;
    token.content = item.key();
    MOESCOPE_ASSIGN_OR_RETURN(
        token.id, JsonNode(item.value(), item.key()).AsInt(kMaxTokenId));
    read.added.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// Both files may list a token; two that differ contradict each other.
absl::Status Unite(std::vector<AddedToken>& added) {
  std::vector<AddedToken> united;
  absl::flat_hash_map<std::int32_t, std::string> by_id;
  absl::flat_hash_set<std::string> contents;
  for (AddedToken& token : added) {
    if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes) {
      return BrokenTokenizer(
          "added token", absl::StrCat(token.id, " has ", token.content.size(),
                                      " bytes; 1 to ", kMaxAddedTokenBytes,
                                      " are allowed"));
    }
    const auto [known, is_new] = by_id.emplace(token.id, token.content);
    if (!is_new && known->second == token.content) continue;
    if (!is_new || !contents.insert(token.content).second) {
      return BrokenTokenizer(
          "added token", absl::StrCat(token.id, " (\"", token.content,
                                      "\") is given twice, differently"));
    }
    token.normalized_content = token.content;
    united.push_back(std::move(token));
  }
  added = std::move(united);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TextCodec>> ParseSentencePieceCodec(
    absl::string_view tokenizer_model, absl::string_view tokenizer_config_json,
    absl::string_view added_tokens_json) {
  auto model = SentencePieceModel::Parse(tokenizer_model);
  if (!model.ok()) return Annotate(model.status(), "tokenizer.model");
  Surroundings read;
  const auto apply = [&read](absl::string_view text, auto reader,
                             absl::string_view name) -> absl::Status {
    if (text.empty()) return absl::OkStatus();
    const auto document = ParseJson(text);
    if (!document.ok()) return Annotate(document.status(), name);
    const absl::Status status = reader(*document, read);
    return status.ok() ? status : Annotate(status, name);
  };
  MOESCOPE_RETURN_IF_ERROR(
      apply(tokenizer_config_json, ReadConfig, "tokenizer_config.json"));
  MOESCOPE_RETURN_IF_ERROR(
      apply(added_tokens_json, ReadAddedTokens, "added_tokens.json"));
  MOESCOPE_RETURN_IF_ERROR(Unite(read.added));
  return SentencePieceCodec::Create(*std::move(model), std::move(read));
}

}  // namespace moescope::model::internal
