#include "client/cli/near_word.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <vector>

namespace moescope::client {
namespace {

constexpr std::size_t kMaxEdits = 2;

// Levenshtein's distance.
std::size_t Edits(absl::string_view from, absl::string_view to) {
  // edits[j]: from the letters of `from` so far to the first j of `to`.
  std::vector<std::size_t> edits(to.size() + 1);
  std::iota(edits.begin(), edits.end(), std::size_t{0});
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::size_t diagonal = edits[0];
    edits[0] = i + 1;
    for (std::size_t j = 0; j < to.size(); ++j) {
      const std::size_t replaced = diagonal + (from[i] == to[j] ? 0 : 1);
      diagonal = edits[j + 1];
      edits[j + 1] = std::min({replaced, edits[j] + 1, diagonal + 1});
    }
  }
  return edits.back();
}

}  // namespace

std::string NearWord(absl::string_view word,
                     const std::vector<std::string>& known) {
  std::size_t fewest = std::min(kMaxEdits + 1, word.size());
  std::string nearest;
  for (const std::string& candidate : known) {
    // Bounds the work: a word of the command line may be of any length.
    if (candidate.size() + kMaxEdits < word.size()) {
      continue;
    }
    const std::size_t edits = Edits(word, candidate);
    if (edits < fewest) {
      fewest = edits;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace moescope::client
