#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/normalizer_internal.h"
#include "server/model/tokenizer/regex_internal.h"

namespace moescope::model::internal {

/// One entry of "pre_tokenizer": cuts pieces of text into smaller ones.
/// Threads: immutable.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// None of the answered pieces is empty.
  /// Errors: RESOURCE_EXHAUSTED field "text".
  virtual absl::StatusOr<std::vector<Piece>> Apply(
      std::vector<Piece> pieces, const RegexBudget& budget) const = 0;
};

/// What becomes of the matches that cut a text.
enum class SplitBehavior {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

/// A part of a text that is a match, or lies between matches.
struct SplitPart {
  Span span;
  bool is_match = false;
};

/// `parts` (which cover a text, in order) joined or dropped as `behavior` says.
std::vector<Span> JoinParts(const std::vector<SplitPart>& parts,
                            SplitBehavior behavior);

/// The pre_tokenizer of `node`; null for JSON null.
/// Errors: UNIMPLEMENTED, DATA_LOSS.
absl::StatusOr<std::unique_ptr<const PreTokenizer>> ParsePreTokenizer(
    const JsonNode& node);

}  // namespace moescope::model::internal
