#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model::internal {

/// The replacement rules of a SentencePiece model: its precompiled_charsmap,
/// which is a double-array trie of what to replace (Darts-clone: 32-bit units)
/// in front of the replacements, each ended by a zero byte.
/// Threads: immutable.
class CharacterMap {
 public:
  CharacterMap() = default;  // no rule
  /// Errors: DATA_LOSS (sizes that don't fit, a rule without replacement).
  static absl::StatusOr<CharacterMap> Parse(absl::string_view bytes);

  struct Match {
    std::size_t length;  ///< Bytes replaced.
    absl::string_view replacement;
  };
  /// The longest rule for the beginning of `text`.
  std::optional<Match> LongestAt(absl::string_view text) const;

 private:
  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace moescope::model::internal
