#include "moescope/model/tokenizer.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/model/tokenizer/added_tokens_internal.h"
#include "server/model/tokenizer/bpe_internal.h"
#include "server/model/tokenizer/decoder_internal.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/normalizer_internal.h"
#include "server/model/tokenizer/post_processor_internal.h"
#include "server/model/tokenizer/pre_tokenizer_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"

namespace moescope::model {

namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{128} << 20;
constexpr std::size_t kMaxTextBytes = std::size_t{64} << 20;

// Characters that move the cursor or reorder what stands around them.
bool IsUnprintable(char32_t value) {
  return value < 0x20 || (value >= 0x7F && value <= 0x9F) || value == 0x61C ||
         value == 0x200E || value == 0x200F ||
         (value >= 0x2028 && value <= 0x202E) ||
         (value >= 0x2066 && value <= 0x2069) || value == 0xFEFF;
}

std::string Escaped(char32_t value) {
  switch (value) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\\':
      return "\\\\";
    default:
      break;
  }
  if (!IsUnprintable(value)) {
    return internal::EncodeUtf8(value);
  }
  const auto number = static_cast<std::uint32_t>(value);
  return value < 0x80 ? absl::StrFormat("\\x%02X", number)
                      : absl::StrFormat("\\u{%X}", number);
}

}  // namespace

struct Tokenizer::Parts {
  std::unique_ptr<const internal::Bpe> model;
  std::unique_ptr<const internal::Normalizer> normalizer;
  std::unique_ptr<const internal::PreTokenizer> pre_tokenizer;
  internal::AddedTokens added;
  internal::PostProcessor post_processor;
  internal::Decoder decoder;
  std::int32_t vocab_size = 0;
  std::size_t num_tokens = 0;

  static absl::StatusOr<std::unique_ptr<const Parts>> Parse(
      absl::string_view text);

  // The token as the file spells it; null for an id without one.
  const std::string* Spelling(std::int32_t id) const {
    const internal::AddedToken* const token = added.Find(id);
    return token != nullptr ? &token->normalized_content : model->Token(id);
  }

  absl::StatusOr<std::vector<std::int32_t>> EncodePiece(
      internal::Piece piece, const internal::RegexBudget& budget) const;
};

absl::StatusOr<std::unique_ptr<const Tokenizer::Parts>> Tokenizer::Parts::Parse(
    absl::string_view text) {
  if (text.size() > static_cast<std::size_t>(kMaxFileBytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("has ", text.size(), " bytes; at most ", kMaxFileBytes));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const nlohmann::json document,
                            internal::ParseJson(text));
  const internal::JsonNode root(document, "");
  MOESCOPE_RETURN_IF_ERROR(root.OnlyHas(
      {"version", "truncation", "padding", "added_tokens", "normalizer",
       "pre_tokenizer", "post_processor", "decoder", "model"}));
  const nlohmann::json null;
  const auto component = [&](const char* key) {
    const auto found = document.find(key);
    return internal::JsonNode(found == document.end() ? null : *found, key);
  };
  auto parts = std::make_unique<Parts>();
  MOESCOPE_ASSIGN_OR_RETURN(const internal::JsonNode model, root.Get("model"));
  MOESCOPE_ASSIGN_OR_RETURN(parts->model, internal::Bpe::Parse(model));
  MOESCOPE_ASSIGN_OR_RETURN(parts->normalizer,
                            internal::ParseNormalizer(component("normalizer")));
  MOESCOPE_ASSIGN_OR_RETURN(
      parts->pre_tokenizer,
      internal::ParsePreTokenizer(component("pre_tokenizer")));
  MOESCOPE_ASSIGN_OR_RETURN(
      parts->added, internal::AddedTokens::Parse(root, *parts->model,
                                                 parts->normalizer.get()));
  parts->vocab_size = parts->model->size();
  for (const internal::AddedToken& token : parts->added.tokens()) {
    parts->vocab_size = std::max(parts->vocab_size, token.id + 1);
  }
  for (std::int32_t id = 0; id < parts->vocab_size; ++id) {
    parts->num_tokens += parts->Spelling(id) != nullptr ? 1 : 0;
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      parts->post_processor,
      internal::PostProcessor::Parse(component("post_processor"),
                                     parts->vocab_size));
  MOESCOPE_ASSIGN_OR_RETURN(parts->decoder,
                            internal::Decoder::Parse(component("decoder")));
  return std::unique_ptr<const Parts>(std::move(parts));
}

absl::StatusOr<std::vector<std::int32_t>> Tokenizer::Parts::EncodePiece(
    internal::Piece piece, const internal::RegexBudget& budget) const {
  std::vector<internal::Piece> words;
  words.push_back(std::move(piece));
  if (pre_tokenizer != nullptr) {
    MOESCOPE_ASSIGN_OR_RETURN(words,
                              pre_tokenizer->Apply(std::move(words), budget));
  }
  std::vector<std::int32_t> ids;
  for (const internal::Piece& word : words) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int32_t> word_ids,
                              model->Encode(word.text));
    ids.insert(ids.end(), word_ids.begin(), word_ids.end());
  }
  return ids;
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts)
    : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(
    absl::string_view tokenizer_json) {
  auto parts = Parts::Parse(tokenizer_json);
  if (!parts.ok()) {
    return Annotate(parts.status(), "tokenizer.json");
  }
  return std::shared_ptr<const Tokenizer>(new Tokenizer(*std::move(parts)));
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(
    const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/tokenizer.json");
  MOESCOPE_ASSIGN_OR_RETURN(const std::string text,
                            ReadFile(path, kMaxFileBytes));
  auto parts = Parts::Parse(text);
  if (!parts.ok()) {
    return Annotate(parts.status(), path);
  }
  return std::shared_ptr<const Tokenizer>(new Tokenizer(*std::move(parts)));
}

absl::StatusOr<std::vector<std::int32_t>> Tokenizer::Encode(
    absl::string_view text, bool add_special_tokens) const {
  if (text.size() > kMaxTextBytes) {
    return FieldError(
        absl::StatusCode::kResourceExhausted, "text",
        absl::StrCat("has ", text.size(), " bytes; at most ", kMaxTextBytes));
  }
  const std::size_t invalid = internal::InvalidUtf8Offset(text);
  if (invalid != absl::string_view::npos) {
    return InvalidField("text", absl::StrCat("is not UTF-8 at byte ", invalid));
  }
  const internal::RegexBudget budget;
  std::vector<std::int32_t> ids;
  for (internal::Segment& segment : parts_->added.SplitRaw(text)) {
    if (segment.id.has_value()) {
      ids.push_back(*segment.id);
      continue;
    }
    internal::Piece piece = std::move(segment.piece);
    if (parts_->normalizer != nullptr) {
      MOESCOPE_ASSIGN_OR_RETURN(
          piece, parts_->normalizer->Apply(std::move(piece), budget));
    }
    for (internal::Segment& part :
         parts_->added.SplitNormalized(std::move(piece))) {
      if (part.id.has_value()) {
        ids.push_back(*part.id);
        continue;
      }
      MOESCOPE_ASSIGN_OR_RETURN(
          const std::vector<std::int32_t> part_ids,
          parts_->EncodePiece(std::move(part.piece), budget));
      ids.insert(ids.end(), part_ids.begin(), part_ids.end());
    }
  }
  return parts_->post_processor.Apply(std::move(ids), add_special_tokens);
}

std::string Tokenizer::DecodeToken(std::int32_t id) const {
  const internal::AddedToken* const added = parts_->added.Find(id);
  if (added != nullptr) {
    return added->content;
  }
  const std::string* const token = parts_->model->Token(id);
  return token == nullptr ? "" : parts_->decoder.DecodeOne(*token);
}

std::string Tokenizer::DisplayToken(std::int32_t id) const {
  if (parts_->Spelling(id) == nullptr) {
    return absl::StrCat("[", id, "]");
  }
  const std::string bytes = DecodeToken(id);
  std::string shown;
  for (std::size_t at = 0; at < bytes.size();) {
    const absl::string_view rest = absl::string_view(bytes).substr(at, 4);
    if (internal::InvalidUtf8Offset(rest) == 0) {
      absl::StrAppendFormat(&shown, "\\x%02X",
                            static_cast<unsigned char>(rest[0]));
      ++at;
      continue;
    }
    const internal::CodePoint point = internal::DecodeUtf8(bytes, at);
    shown += Escaped(point.value);
    at += point.length;
  }
  return shown;
}

absl::StatusOr<std::string> Tokenizer::Decode(
    absl::Span<const std::int32_t> ids) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    const std::string* const token = parts_->Spelling(id);
    if (token != nullptr) {
      tokens.push_back(*token);
    }
  }
  return parts_->decoder.Decode(std::move(tokens));
}

std::int32_t Tokenizer::vocab_size() const { return parts_->vocab_size; }

std::optional<std::int32_t> Tokenizer::bos_id() const {
  return parts_->post_processor.FirstSpecial();
}

std::string Tokenizer::Describe() const {
  const absl::string_view kind =
      parts_->decoder.is_byte_level()  ? "byte-level, "
      : parts_->model->byte_fallback() ? "byte fallback, "
                                       : "";
  return absl::StrCat("BPE, ", kind, parts_->num_tokens, " entries");
}

}  // namespace moescope::model
