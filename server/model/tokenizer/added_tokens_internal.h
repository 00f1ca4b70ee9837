#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/tokenizer/bpe_internal.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/normalizer_internal.h"

namespace moescope::model::internal {

/// Bounds the look-ahead from each byte of a text.
constexpr std::size_t kMaxAddedTokenBytes = 1024;

/// A token that is looked for in the text before anything cuts it.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  /// What the decoder gets to see: the normalized content.
  std::string normalized_content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  /// No text of its own but a mark, such as BOS.
  bool special = false;
};

/// A part of a text: an added token, or text between such.
struct Segment {
  std::optional<std::int32_t> id;
  Piece piece;
};

/// Strings to be found in a text, each standing for a number.
/// Threads: immutable once built.
class Trie {
 public:
  void Add(absl::string_view key, std::size_t value);
  bool empty() const { return values_.size() <= 1; }

  struct Match {
    std::size_t value;
    std::size_t length;
  };
  /// The longest key that starts at byte `at` of `text`.
  std::optional<Match> LongestAt(absl::string_view text, std::size_t at) const;
  /// Calls `visit(value, length)` for every key that starts there, the shortest
  /// first.
  template <typename Visit>
  void ForEachAt(absl::string_view text, std::size_t at, Visit visit) const {
    std::uint32_t node = 0;
    for (std::size_t i = at; i < text.size(); ++i) {
      const auto found = edges_.find((static_cast<std::uint64_t>(node) << 8) |
                                     static_cast<unsigned char>(text[i]));
      if (found == edges_.end()) return;
      node = found->second;
      if (values_[node] >= 0) {
        visit(static_cast<std::size_t>(values_[node]), i + 1 - at);
      }
    }
  }

 private:
  // Values by node (-1: none) and edges by node and byte; node 0 is the root.
  std::vector<std::ptrdiff_t> values_ = {-1};
  absl::flat_hash_map<std::uint64_t, std::uint32_t> edges_;
};

/// The "added_tokens" of a tokenizer.json.
/// Threads: immutable.
class AddedTokens {
 public:
  /// Errors: DATA_LOSS (an id that belongs to another token), UNIMPLEMENTED
  /// (an option; a token longer than 1024 bytes).
  static absl::StatusOr<AddedTokens> Parse(const JsonNode& root,
                                           const Bpe& model,
                                           const Normalizer* normalizer);

  /// These tokens, all of them looked for in the text as it is.
  static AddedTokens FromList(std::vector<AddedToken> tokens);

  /// Cuts out the tokens that are matched in the text as it is.
  std::vector<Segment> SplitRaw(absl::string_view text) const;
  /// Cuts out the tokens that are matched in normalized text.
  std::vector<Segment> SplitNormalized(Piece piece) const;

  /// Null for an id that is no added token.
  const AddedToken* Find(std::int32_t id) const;
  /// The id of the token that is spelled `content`.
  std::optional<std::int32_t> FindContent(absl::string_view content) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  std::vector<Segment> Split(const Piece& piece, const Trie& trie) const;

  std::vector<AddedToken> tokens_;
  absl::flat_hash_map<std::int32_t, std::size_t> index_;
  Trie raw_;
  Trie normalized_;
};

}  // namespace moescope::model::internal
