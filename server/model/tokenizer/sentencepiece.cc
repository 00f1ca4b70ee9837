#include "server/model/tokenizer/sentencepiece_internal.h"

#include <algorithm>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

// U+2581, which stands for a space inside pieces.
constexpr absl::string_view kSpaceMark = "\xE2\x96\x81";
constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";

bool MayStandInText(PieceKind kind) {
  return kind == PieceKind::kNormal || kind == PieceKind::kUserDefined ||
         kind == PieceKind::kUnused;
}

// `bytes` as text: every byte that is no part of a character is replaced.
std::string BytesToText(absl::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    std::size_t length = 1;
    if (InvalidUtf8Offset(bytes.substr(0, 4)) == 0) {
      absl::StrAppend(&text, kReplacement);
    } else {
      length = DecodeUtf8(bytes, 0).length;
      absl::StrAppend(&text, bytes.substr(0, length));
    }
    bytes.remove_prefix(length);
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const SentencePieceModel>>
SentencePieceModel::Parse(absl::string_view bytes) {
  MOESCOPE_ASSIGN_OR_RETURN(SentencePieceFile file,
                            ParseSentencePieceFile(bytes));
  std::unique_ptr<SentencePieceModel> model(
      new SentencePieceModel(std::move(file)));
  MOESCOPE_ASSIGN_OR_RETURN(model->character_map_,
                            CharacterMap::Parse(model->file_.character_map));
  model->Index();
  return std::unique_ptr<const SentencePieceModel>(std::move(model));
}

void SentencePieceModel::Index() {
  min_score_ = std::numeric_limits<float>::max();
  max_score_ = std::numeric_limits<float>::lowest();
  for (std::int32_t id = 0; id < size(); ++id) {
    const SentencePiece& piece = Piece(id);
    ids_.emplace(piece.text, id);
    if (piece.kind == PieceKind::kUnknown) unknown_ = id;
    if (piece.kind == PieceKind::kUserDefined) {
      user_defined_.Add(piece.text, static_cast<std::size_t>(id));
    }
    if (piece.kind == PieceKind::kNormal) {
      min_score_ = std::min(min_score_, piece.score);
      max_score_ = std::max(max_score_, piece.score);
    }
    if (piece.kind == PieceKind::kByte) {
      byte_ids_[*ByteOfPiece(piece.text)] = id;
    }
    if (file_.algorithm == SentencePieceFile::Algorithm::kUnigram &&
        MayStandInText(piece.kind)) {
      in_text_.Add(piece.text, static_cast<std::size_t>(id));
    }
  }
}

std::optional<std::int32_t> SentencePieceModel::Find(
    absl::string_view piece) const {
  const auto found = ids_.find(piece);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::int32_t> SentencePieceModel::FindInText(
    absl::string_view piece) const {
  const auto id = Find(piece);
  return id.has_value() && MayStandInText(Piece(*id).kind) ? id : std::nullopt;
}

std::optional<std::int32_t> SentencePieceModel::bos_id() const {
  const auto id = Find(file_.bos_piece);
  return id.has_value() && Piece(*id).kind == PieceKind::kControl
             ? id
             : std::nullopt;
}

std::optional<std::int32_t> SentencePieceModel::eos_id() const {
  const auto id = Find(file_.eos_piece);
  return id.has_value() && Piece(*id).kind == PieceKind::kControl
             ? id
             : std::nullopt;
}

std::string SentencePieceModel::Describe() const {
  return absl::StrCat(
      file_.algorithm == SentencePieceFile::Algorithm::kBpe ? "BPE" : "unigram",
      file_.byte_fallback ? ", byte fallback" : "");
}

SentencePieceModel::Prefix SentencePieceModel::NormalizePrefix(
    absl::string_view text) const {
  if (const auto symbol = user_defined_.LongestAt(text, 0)) {
    return {symbol->length, text.substr(0, symbol->length)};
  }
  if (const auto rule = character_map_.LongestAt(text)) {
    // A damaged map may cut a character; then the rule is not for this text.
    if (InvalidUtf8Offset(text.substr(rule->length, 4)) != 0) {
      return {rule->length, rule->replacement};
    }
  }
  const std::size_t length = DecodeUtf8(text, 0).length;
  return {length, text.substr(0, length)};
}

absl::StatusOr<std::string> SentencePieceModel::Normalize(
    absl::string_view text) const {
  const bool squeeze = file_.remove_extra_whitespaces;
  const absl::string_view space = file_.escape_whitespaces ? kSpaceMark : " ";
  while (squeeze && !text.empty()) {
    const Prefix prefix = NormalizePrefix(text);
    if (prefix.text != " ") break;
    text.remove_prefix(prefix.length);
  }
  std::string normalized;
  if (text.empty()) return normalized;
  if (file_.add_dummy_prefix) absl::StrAppend(&normalized, space);
  bool after_space = squeeze;
  while (!text.empty()) {
    const Prefix prefix = NormalizePrefix(text);
    absl::string_view part = prefix.text;
    while (after_space && absl::ConsumePrefix(&part, " ")) {
    }
    for (const char c : part) {
      if (c == ' ') {
        absl::StrAppend(&normalized, space);
      } else {
        normalized += c;
      }
    }
    if (!part.empty()) after_space = squeeze && absl::EndsWith(part, " ");
    if (normalized.size() > kMaxWorkingBytes) return TextGrowsTooLong();
    text.remove_prefix(prefix.length);
  }
  while (squeeze && absl::EndsWith(normalized, space)) {
    normalized.resize(normalized.size() - space.size());
  }
  return normalized;
}

absl::StatusOr<std::vector<std::int32_t>> SentencePieceModel::Encode(
    absl::string_view text) const {
  MOESCOPE_ASSIGN_OR_RETURN(const std::string normalized, Normalize(text));
  const Segmentation parts =
      file_.algorithm == SentencePieceFile::Algorithm::kBpe
          ? SegmentByBpe(normalized)
          : SegmentByUnigram(normalized);
  std::vector<std::int32_t> ids;
  bool after_unknown = false;
  for (const auto& [part, id] : parts) {
    const bool is_unknown = id == unknown_;
    if (is_unknown && file_.byte_fallback) {
      for (const char c : part) {
        ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      }
    } else if (!is_unknown || !after_unknown) {
      ids.push_back(id);  // a run of unknown parts is one
    }
    after_unknown = is_unknown;
  }
  return ids;
}

SentencePieceModel::Segmentation SentencePieceModel::SegmentByUnigram(
    absl::string_view text) const {
  // The best way to reach each byte. Scores add up in float, as in the library:
  // otherwise near ties would fall differently.
  struct Best {
    float score = 0;
    std::int32_t id = -1;
    std::ptrdiff_t from = -1;
  };
  constexpr float kUnknownPenalty = 10.0F;
  const float unknown_score = min_score_ - kUnknownPenalty;
  std::vector<Best> best(text.size() + 1);
  const auto offer = [&best](std::size_t from, std::size_t to, auto score,
                             std::int32_t id) {
    const auto total = score + best[from].score;
    if (best[to].from < 0 || total > best[to].score) {
      best[to] = {static_cast<float>(total), id,
                  static_cast<std::ptrdiff_t>(from)};
    }
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = DecodeUtf8(text, at).length;
    bool has_single = false;
    in_text_.ForEachAt(text, at, [&](std::size_t value, std::size_t size) {
      const auto id = static_cast<std::int32_t>(value);
      const SentencePiece& piece = Piece(id);
      if (piece.kind == PieceKind::kUnused) return;
      if (piece.kind == PieceKind::kUserDefined) {
        offer(at, at + size, static_cast<float>(size) * max_score_ - 0.1, id);
      } else {
        offer(at, at + size, piece.score, id);
      }
      has_single = has_single || size == length;
    });
    if (!has_single) offer(at, at + length, unknown_score, unknown_);
    at += length;
  }
  Segmentation parts;
  for (std::size_t end = text.size(); end > 0;) {
    const auto from = static_cast<std::size_t>(best[end].from);
    parts.emplace_back(text.substr(from, end - from), best[end].id);
    end = from;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::string SentencePieceModel::DecodePiece(std::int32_t id, bool at_start,
                                            bool* took_space) const {
  const SentencePiece& piece = Piece(id);
  *took_space = false;
  if (piece.kind == PieceKind::kControl) return piece.text;
  if (piece.kind == PieceKind::kUnknown) return file_.unk_surface;
  absl::string_view text = piece.text;
  if (at_start &&
      (file_.add_dummy_prefix || file_.remove_extra_whitespaces)) {
    *took_space = absl::ConsumePrefix(&text, kSpaceMark) &&
                  !file_.remove_extra_whitespaces;
  }
  return absl::StrReplaceAll(text, {{kSpaceMark, " "}});
}

std::string SentencePieceModel::Decode(
    absl::Span<const std::int32_t> ids) const {
  std::string text;
  std::string bytes;
  bool at_start = true;
  bool took_space = false;
  const auto flush = [&] {
    absl::StrAppend(&text, BytesToText(bytes));
    bytes.clear();
  };
  for (const std::int32_t id : ids) {
    if (Piece(id).kind == PieceKind::kByte) {
      bytes += static_cast<char>(*ByteOfPiece(Piece(id).text));
      continue;
    }
    flush();
    // The dummy prefix is left out once.
    if (took_space || !text.empty()) at_start = false;
    absl::StrAppend(&text, DecodePiece(id, at_start, &took_space));
  }
  flush();
  return text;
}

std::string SentencePieceModel::DecodeOne(std::int32_t id) const {
  const SentencePiece& piece = Piece(id);
  if (piece.kind == PieceKind::kByte) {
    return std::string(1, static_cast<char>(*ByteOfPiece(piece.text)));
  }
  return piece.kind == PieceKind::kControl || piece.kind == PieceKind::kUnknown
             ? piece.text
             : absl::StrReplaceAll(piece.text, {{kSpaceMark, " "}});
}

}  // namespace moescope::model::internal
