#include "moescope/model/tokenizer.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/model/tokenizer/text_codec_internal.h"
#include "server/model/tokenizer/tokenizer_config_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"

namespace moescope::model {

namespace {

// Published ones stay below 35 MB.
constexpr std::int64_t kMaxFileBytes = std::int64_t{64} << 20;
// As for config.json; published ones stay below 1 MiB, chat template included.
constexpr std::int64_t kMaxConfigBytes = std::int64_t{16} << 20;
constexpr std::size_t kMaxTextBytes = std::size_t{64} << 20;

constexpr const char* kJsonName = "tokenizer.json";
constexpr const char* kSentencePieceName = "tokenizer.model";
constexpr const char* kConfigName = "tokenizer_config.json";
constexpr const char* kAddedName = "added_tokens.json";
constexpr const char* kMapName = "special_tokens_map.json";

absl::Status CheckSize(absl::string_view file, const char* name,
                       std::int64_t max_bytes) {
  if (file.size() <= static_cast<std::size_t>(max_bytes)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      name, ": has ", file.size(), " bytes; at most ", max_bytes));
}

absl::StatusOr<std::optional<std::string>> ReadIfThere(
    const std::string& folder, const char* name, std::int64_t max_bytes) {
  absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat(folder, "/", name), max_bytes);
  if (absl::IsNotFound(text.status())) return std::optional<std::string>();
  if (!text.ok()) {
    // Not the original message: it shows the server's path.
    return absl::Status(text.status().code(),
                        absl::StrCat(name, ": unreadable, or too large"));
  }
  // To the parsers, an empty text is a file that is not there.
  if (text->empty()) {
    return absl::DataLossError(absl::StrCat(name, ": is empty"));
  }
  return std::optional<std::string>(*std::move(text));
}

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

Tokenizer::Tokenizer(std::unique_ptr<const internal::TextCodec> codec)
    : codec_(std::move(codec)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(
    absl::string_view tokenizer_json, absl::string_view tokenizer_config_json) {
  MOESCOPE_RETURN_IF_ERROR(CheckSize(tokenizer_json, kJsonName, kMaxFileBytes));
  MOESCOPE_RETURN_IF_ERROR(
      CheckSize(tokenizer_config_json, kConfigName, kMaxConfigBytes));
  MOESCOPE_ASSIGN_OR_RETURN(
      auto codec,
      internal::ParseJsonCodec(tokenizer_json, tokenizer_config_json));
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(codec)));
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromSentencePiece(
    absl::string_view tokenizer_model, absl::string_view tokenizer_config_json,
    absl::string_view added_tokens_json) {
  MOESCOPE_RETURN_IF_ERROR(
      CheckSize(tokenizer_config_json, kConfigName, kMaxConfigBytes));
  MOESCOPE_RETURN_IF_ERROR(
      CheckSize(added_tokens_json, kAddedName, kMaxConfigBytes));
  MOESCOPE_ASSIGN_OR_RETURN(
      auto codec,
      internal::ParseSentencePieceCodec(tokenizer_model, tokenizer_config_json,
                                        added_tokens_json));
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(codec)));
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(
    const std::string& folder) {
  MOESCOPE_ASSIGN_OR_RETURN(auto config,
                            ReadIfThere(folder, kConfigName, kMaxConfigBytes));
  MOESCOPE_ASSIGN_OR_RETURN(const auto map,
                            ReadIfThere(folder, kMapName, kMaxConfigBytes));
  if (!map.has_value()) return LoadWith(folder, config.value_or(""));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::string united,
      internal::WithSpecialTokensMap(config.value_or(""), *map));
  auto tokenizer = LoadWith(folder, united);
  // What it finds missing may stand in either file.
  return tokenizer.ok() || united == config
             ? std::move(tokenizer)
             : Annotate(tokenizer.status(), absl::StrCat("with ", kMapName));
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::LoadWith(
    const std::string& folder, absl::string_view tokenizer_config_json) {
  MOESCOPE_ASSIGN_OR_RETURN(const auto json,
                            ReadIfThere(folder, kJsonName, kMaxFileBytes));
  if (json.has_value()) return FromJson(*json, tokenizer_config_json);
  MOESCOPE_ASSIGN_OR_RETURN(
      const auto model, ReadIfThere(folder, kSentencePieceName, kMaxFileBytes));
  if (!model.has_value()) {
    return absl::NotFoundError(absl::StrCat(
        "the model has neither ", kJsonName, " nor ", kSentencePieceName));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const auto added,
                            ReadIfThere(folder, kAddedName, kMaxConfigBytes));
  return FromSentencePiece(*model, tokenizer_config_json, added.value_or(""));
}

absl::StatusOr<std::vector<std::int32_t>> Tokenizer::Encode(
    absl::string_view text, bool add_special_tokens) const {
  if (text.size() > kMaxTextBytes) {
    return FieldError(
        absl::StatusCode::kResourceExhausted, "text",
        absl::StrCat("has ", text.size(), " bytes; at most ", kMaxTextBytes));
  }
  const std::size_t invalid = InvalidUtf8Offset(text);
  if (invalid != absl::string_view::npos) {
    return InvalidField("text", absl::StrCat("is not UTF-8 at byte ", invalid));
  }
  return codec_->Encode(text, add_special_tokens);
}

std::string Tokenizer::DecodeToken(std::int32_t id) const {
  return codec_->DecodeToken(id);
}

std::string Tokenizer::DisplayToken(std::int32_t id) const {
  if (!codec_->HasToken(id)) {
    return absl::StrCat("[", id, "]");
  }
  const std::string bytes = DecodeToken(id);
  std::string shown;
  for (std::size_t at = 0; at < bytes.size();) {
    const absl::string_view rest = absl::string_view(bytes).substr(at, 4);
    if (InvalidUtf8Offset(rest) == 0) {
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
  std::vector<std::int32_t> known;
  std::copy_if(ids.begin(), ids.end(), std::back_inserter(known),
               [this](std::int32_t id) { return codec_->HasToken(id); });
  return codec_->Decode(known);
}

bool Tokenizer::IsSpecial(std::int32_t id) const {
  return codec_->IsSpecial(id);
}

std::int32_t Tokenizer::vocab_size() const { return codec_->vocab_size(); }

std::optional<std::int32_t> Tokenizer::bos_id() const {
  return codec_->bos_id();
}

std::string Tokenizer::Describe() const { return codec_->Describe(); }

}  // namespace moescope::model
