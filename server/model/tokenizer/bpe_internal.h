#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/tokenizer/json_node_internal.h"

namespace moescope::model::internal {

/// Highest token id of any tokenizer, four times the highest of published
/// mixtures of experts; bounds the tables indexed by id.
constexpr std::int32_t kMaxTokenId = (1 << 20) - 1;

/// Byte-pair encoding: the "model" of a tokenizer.json.
/// Threads: immutable.
class Bpe {
 public:
  /// Errors: UNIMPLEMENTED (another model, an option), DATA_LOSS (two tokens
  /// with one id, a merge of or into an unknown token).
  static absl::StatusOr<std::unique_ptr<const Bpe>> Parse(const JsonNode& node);

  /// Token ids of one word (valid UTF-8).
  /// Cost: O(n log n). Errors: DATA_LOSS (unk_token is no token).
  absl::StatusOr<std::vector<std::int32_t>> Encode(
      absl::string_view word) const;

  std::optional<std::int32_t> Find(absl::string_view token) const;
  /// Null for an id without token.
  const std::string* Token(std::int32_t id) const;
  /// One more than the highest id.
  std::int32_t size() const {
    return static_cast<std::int32_t>(tokens_.size());
  }
  bool byte_fallback() const { return byte_fallback_; }

 private:
  struct Merge {
    std::uint32_t rank;
    std::int32_t id;
  };
  /// A token of a word being merged: a node of a doubly linked list.
  struct Symbol {
    std::int32_t id;
    std::int32_t previous;
    std::int32_t next;
    bool merged;
  };

  Bpe() = default;
  absl::Status ReadVocabulary(const JsonNode& node);
  absl::Status ReadMerges(const JsonNode& node);
  absl::Status AddMerge(const std::string& left, const std::string& right,
                        std::uint32_t rank, const std::string& where);
  const Merge* FindMerge(std::int32_t left, std::int32_t right) const;
  absl::StatusOr<std::vector<Symbol>> Characters(absl::string_view word) const;
  bool AppendBytes(absl::string_view character,
                   std::vector<std::int32_t>& ids) const;
  void MergeAll(std::vector<Symbol>& symbols) const;

  std::vector<std::optional<std::string>> tokens_;
  absl::flat_hash_map<std::string, std::int32_t> ids_;
  absl::flat_hash_map<std::uint64_t, Merge> merges_;
  std::array<std::int32_t, 256> byte_ids_{};
  std::optional<std::string> unk_token_;
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace moescope::model::internal
