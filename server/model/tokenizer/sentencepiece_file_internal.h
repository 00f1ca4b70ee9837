#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model::internal {

/// What a piece is for.
enum class PieceKind {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct SentencePiece {
  std::string text;
  float score = 0;
  PieceKind kind = PieceKind::kNormal;
};

/// The byte that a byte piece is spelled as: "<0x0A>".
std::optional<unsigned char> ByteOfPiece(absl::string_view text);

/// What a SentencePiece `tokenizer.model` (a protobuf message
/// ModelProto of sentencepiece_model.proto) holds; defaults as there. Read here
/// field by field, because the packaged library carries an old protobuf whose
/// symbols clash with the one that gRPC uses.
struct SentencePieceFile {
  enum class Algorithm { kUnigram = 1, kBpe = 2 };
  Algorithm algorithm = Algorithm::kUnigram;
  std::vector<SentencePiece> pieces;  ///< By id.
  bool byte_fallback = false;
  std::string unk_surface = " \xE2\x81\x87 ";
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  /// Replacement rules, see CharacterMap; empty: none.
  std::string character_map;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

/// Errors: DATA_LOSS (no such message, or one that contradicts itself: a piece
/// that is empty, no UTF-8 or there twice, no unknown piece or two, bytes
/// missing for byte fallback); UNIMPLEMENTED (another algorithm, white space as
/// suffix, rules for decoding, more pieces than ids).
absl::StatusOr<SentencePieceFile> ParseSentencePieceFile(
    absl::string_view bytes);

}  // namespace moescope::model::internal
