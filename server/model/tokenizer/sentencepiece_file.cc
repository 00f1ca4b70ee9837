#include "server/model/tokenizer/sentencepiece_file_internal.h"

#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "server/model/tokenizer/bpe_internal.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/status_macros.h"

// Field numbers: sentencepiece_model.proto of google/sentencepiece.

namespace moescope::model::internal {
namespace {

absl::Status Broken(absl::string_view cause) {
  return BrokenTokenizer("the SentencePiece model", cause);
}

absl::Status BrokenPiece(std::size_t id, absl::string_view cause) {
  return Broken(absl::StrCat("has piece ", id, " that ", cause));
}

// One field of a message in wire format.
struct Field {
  std::uint64_t number = 0;
  enum class Type { kVarint, kFixed64, kBytes, kFixed32 } type = Type::kVarint;
  std::uint64_t integer = 0;   // kVarint, kFixed32, kFixed64
  absl::string_view bytes;     // kBytes

  bool Is(std::uint64_t wanted, Type wanted_type) const {
    return number == wanted && type == wanted_type;
  }
  bool IsBytes(std::uint64_t wanted) const {
    return Is(wanted, Type::kBytes);
  }
  bool IsVarint(std::uint64_t wanted) const {
    return Is(wanted, Type::kVarint);
  }
};

// Reads the fields of a message one after another.
class FieldReader {
 public:
  explicit FieldReader(absl::string_view bytes) : left_(bytes) {}

  // False at the end and on an error.
  bool Next(Field& field) {
    if (left_.empty() || failed_) return false;
    const std::uint64_t tag = Varint();
    field = Field();
    field.number = tag >> 3;
    switch (tag & 7) {
      case 0:
        field.integer = Varint();
        break;
      case 1:
        field.type = Field::Type::kFixed64;
        field.integer = Fixed(8);
        break;
      case 2:
        field.type = Field::Type::kBytes;
        field.bytes = Take(Varint());
        break;
      case 5:
        field.type = Field::Type::kFixed32;
        field.integer = Fixed(4);
        break;
      default:
        failed_ = true;
    }
    failed_ = failed_ || field.number == 0;
    return !failed_;
  }
  bool failed() const { return failed_; }

 private:
  std::uint64_t Varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (left_.empty()) break;
      const auto byte = static_cast<unsigned char>(left_.front());
      left_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    failed_ = true;
    return 0;
  }
  absl::string_view Take(std::uint64_t size) {
    if (failed_ || size > left_.size()) {
      failed_ = true;
      return {};
    }
    const absl::string_view taken =
        left_.substr(0, static_cast<std::size_t>(size));
    left_.remove_prefix(taken.size());
    return taken;
  }
  std::uint64_t Fixed(std::size_t size) {
    std::uint64_t value = 0;
    const absl::string_view taken = Take(size);
    for (std::size_t i = 0; i < taken.size(); ++i) {
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(taken[i]))
               << (8 * i);
    }
    return value;
  }

  absl::string_view left_;
  bool failed_ = false;
};

absl::Status Damaged(absl::string_view message) {
  return Broken(absl::StrCat("is damaged in its ", message));
}

absl::StatusOr<SentencePiece> ReadPiece(absl::string_view bytes,
                                        std::size_t id) {
  SentencePiece piece;
  FieldReader reader(bytes);
  for (Field field; reader.Next(field);) {
    if (field.IsBytes(1)) {
      piece.text = std::string(field.bytes);
    } else if (field.Is(2, Field::Type::kFixed32)) {
      const auto bits = static_cast<std::uint32_t>(field.integer);
      std::memcpy(&piece.score, &bits, sizeof bits);
    } else if (field.IsVarint(3)) {
      if (field.integer < 1 || field.integer > 6) {
        return BrokenPiece(id, absl::StrCat("is of type ", field.integer));
      }
      piece.kind = static_cast<PieceKind>(field.integer);
    }
  }
  if (reader.failed()) return Damaged(absl::StrCat("piece ", id));
  if (piece.text.empty()) return BrokenPiece(id, "is empty");
  if (InvalidUtf8Offset(piece.text) != absl::string_view::npos) {
    return BrokenPiece(id, "is not UTF-8");
  }
  if (!std::isfinite(piece.score)) return BrokenPiece(id, "has no finite score");
  return piece;
}

absl::Status ReadTrainerSpec(absl::string_view bytes, SentencePieceFile& file) {
  FieldReader reader(bytes);
  for (Field field; reader.Next(field);) {
    if (field.IsVarint(3)) {
      if (field.integer != 1 && field.integer != 2) {
        return UnsupportedTokenizer(absl::StrCat(
            "SentencePiece model type ", field.integer,
            " (1, unigram, and 2, BPE, are)"));
      }
      file.algorithm =
          static_cast<SentencePieceFile::Algorithm>(field.integer);
    } else if (field.IsVarint(24) && field.integer != 0) {
      return UnsupportedTokenizer("SentencePiece treat_whitespace_as_suffix");
    } else if (field.IsVarint(35)) {
      file.byte_fallback = field.integer != 0;
    } else if (field.IsBytes(44)) {
      file.unk_surface = std::string(field.bytes);
    } else if (field.IsBytes(46)) {
      file.bos_piece = std::string(field.bytes);
    } else if (field.IsBytes(47)) {
      file.eos_piece = std::string(field.bytes);
    }
  }
  return reader.failed() ? Damaged("trainer_spec") : absl::OkStatus();
}

absl::Status ReadNormalizerSpec(absl::string_view bytes,
                                SentencePieceFile& file) {
  FieldReader reader(bytes);
  for (Field field; reader.Next(field);) {
    if (field.IsBytes(2)) {
      file.character_map = std::string(field.bytes);
    } else if (field.IsVarint(3)) {
      file.add_dummy_prefix = field.integer != 0;
    } else if (field.IsVarint(4)) {
      file.remove_extra_whitespaces = field.integer != 0;
    } else if (field.IsVarint(5)) {
      file.escape_whitespaces = field.integer != 0;
    }
  }
  return reader.failed() ? Damaged("normalizer_spec") : absl::OkStatus();
}

absl::Status CheckDenormalizerSpec(absl::string_view bytes) {
  FieldReader reader(bytes);
  for (Field field; reader.Next(field);) {
    if (field.IsBytes(2) && !field.bytes.empty()) {
      return UnsupportedTokenizer("SentencePiece denormalizer_spec");
    }
  }
  return reader.failed() ? Damaged("denormalizer_spec") : absl::OkStatus();
}

absl::Status CheckPieces(const SentencePieceFile& file) {
  absl::flat_hash_set<absl::string_view> seen;
  std::optional<std::size_t> unknown;
  std::size_t num_bytes = 0;
  for (std::size_t id = 0; id < file.pieces.size(); ++id) {
    const SentencePiece& piece = file.pieces[id];
    if (!seen.insert(piece.text).second) {
      return BrokenPiece(id, absl::StrCat("repeats \"", piece.text, "\""));
    }
    if (piece.kind == PieceKind::kByte) {
      if (!ByteOfPiece(piece.text).has_value()) {
        return BrokenPiece(id, "is a byte, but not spelled as one");
      }
      ++num_bytes;
    }
    if (piece.kind == PieceKind::kUnknown) {
      if (unknown.has_value()) return BrokenPiece(id, "is unknown once more");
      unknown = id;
    }
  }
  if (!unknown.has_value()) return Broken("has no unknown piece");
  if (num_bytes != (file.byte_fallback ? 256U : 0U)) {
    return Broken(absl::StrCat("has ", num_bytes, " byte pieces and byte_fallback ",
                               file.byte_fallback ? "true" : "false"));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<unsigned char> ByteOfPiece(absl::string_view text) {
  constexpr absl::string_view kDigits = "0123456789ABCDEF";
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') {
    return std::nullopt;
  }
  const std::size_t high = kDigits.find(text[3]);
  const std::size_t low = kDigits.find(text[4]);
  if (high == absl::string_view::npos || low == absl::string_view::npos) {
    return std::nullopt;
  }
  return static_cast<unsigned char>(16 * high + low);
}

absl::StatusOr<SentencePieceFile> ParseSentencePieceFile(
    absl::string_view bytes) {
  SentencePieceFile file;
  FieldReader reader(bytes);
  for (Field field; reader.Next(field);) {
    if (field.IsBytes(1)) {
      if (file.pieces.size() > static_cast<std::size_t>(kMaxTokenId)) {
        return UnsupportedTokenizer(
            absl::StrCat("SentencePiece model of more than ", kMaxTokenId + 1,
                         " pieces"));
      }
      MOESCOPE_ASSIGN_OR_RETURN(SentencePiece piece,
                                ReadPiece(field.bytes, file.pieces.size()));
      file.pieces.push_back(std::move(piece));
    } else if (field.IsBytes(2)) {
      MOESCOPE_RETURN_IF_ERROR(ReadTrainerSpec(field.bytes, file));
    } else if (field.IsBytes(3)) {
      MOESCOPE_RETURN_IF_ERROR(ReadNormalizerSpec(field.bytes, file));
    } else if (field.IsBytes(5)) {
      MOESCOPE_RETURN_IF_ERROR(CheckDenormalizerSpec(field.bytes));
    }
  }
  if (reader.failed()) return Broken("is no such file, or a damaged one");
  if (file.pieces.empty()) return Broken("has no pieces");
  MOESCOPE_RETURN_IF_ERROR(CheckPieces(file));
  return file;
}

}  // namespace moescope::model::internal
