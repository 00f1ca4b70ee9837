#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/model/tokenizer/added_tokens_internal.h"
#include "server/model/tokenizer/character_map_internal.h"
#include "server/model/tokenizer/sentencepiece_file_internal.h"

namespace moescope::model::internal {

/// SentencePiece: text to ids and back, as that library does it without
/// sampling (Kudo and Richardson, arXiv 1808.06226; the code of version 0.2
/// where the paper is silent).
/// Threads: immutable.
class SentencePieceModel {
 public:
  /// Errors: as ParseSentencePieceFile and CharacterMap::Parse.
  static absl::StatusOr<std::unique_ptr<const SentencePieceModel>> Parse(
      absl::string_view bytes);

  /// Ids of `text` (valid UTF-8), none of them for BOS or EOS.
  /// Cost: O(n log n), some 100 bytes of memory per byte of text.
  /// Errors: RESOURCE_EXHAUSTED field "text" (grows too long).
  absl::StatusOr<std::vector<std::int32_t>> Encode(
      absl::string_view text) const;

  /// Text of `ids`, each of them below size(). Control pieces are spelled out.
  std::string Decode(absl::Span<const std::int32_t> ids) const;
  /// What `id` stands for inside a text.
  std::string DecodeOne(std::int32_t id) const;

  std::optional<std::int32_t> Find(absl::string_view piece) const;
  const std::vector<SentencePiece>& pieces() const { return file_.pieces; }
  std::int32_t size() const {
    return static_cast<std::int32_t>(file_.pieces.size());
  }
  /// The control pieces that the file names.
  std::optional<std::int32_t> bos_id() const;
  std::optional<std::int32_t> eos_id() const;
  /// "BPE, byte fallback"
  std::string Describe() const;

 private:
  /// A part of the normalized text and the piece it became.
  using Segmentation = std::vector<std::pair<absl::string_view, std::int32_t>>;
  struct Prefix {
    std::size_t length;
    absl::string_view text;
  };

  explicit SentencePieceModel(SentencePieceFile file)
      : file_(std::move(file)) {}
  void Index();
  const SentencePiece& Piece(std::int32_t id) const {
    return file_.pieces[static_cast<std::size_t>(id)];
  }
  /// Normal, user-defined and unused pieces: those that a text may contain.
  std::optional<std::int32_t> FindInText(absl::string_view piece) const;
  Prefix NormalizePrefix(absl::string_view text) const;
  absl::StatusOr<std::string> Normalize(absl::string_view text) const;
  std::string DecodePiece(std::int32_t id, bool at_start, bool* took_space) const;

  Segmentation SegmentByBpe(absl::string_view text) const;
  Segmentation SegmentByUnigram(absl::string_view text) const;
  friend class BpeSegmenter;

  SentencePieceFile file_;
  CharacterMap character_map_;
  absl::flat_hash_map<absl::string_view, std::int32_t> ids_;
  Trie in_text_;        // unigram
  Trie user_defined_;
  std::array<std::int32_t, 256> byte_ids_{};
  std::int32_t unknown_ = 0;
  float min_score_ = 0;
  float max_score_ = 0;
};

}  // namespace moescope::model::internal
