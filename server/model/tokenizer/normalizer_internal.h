#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/regex_internal.h"

namespace moescope::model::internal {

/// A part of a text on its way to tokens.
struct Piece {
  std::string text;
  /// Whether its first character stems from the first one of the input.
  bool at_start = false;
};

/// The most bytes that a text may grow to.
constexpr std::size_t kMaxWorkingBytes = std::size_t{512} << 20;

/// RESOURCE_EXHAUSTED field "text": normalising makes it too long.
absl::Status TextGrowsTooLong();

/// One entry of "normalizer".
/// Threads: immutable.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// Errors: RESOURCE_EXHAUSTED field "text".
  virtual absl::StatusOr<Piece> Apply(Piece piece,
                                      const RegexBudget& budget) const = 0;
};

/// The regex or literal of a "pattern" object.
/// Threads: immutable.
class Pattern {
 public:
  /// Reads {"String": …} or {"Regex": …}.
  static absl::StatusOr<Pattern> Parse(const JsonNode& node);
  static absl::StatusOr<Pattern> FromRegex(absl::string_view regex);

  absl::StatusOr<std::vector<Span>> FindAll(absl::string_view text,
                                            const RegexBudget& budget) const;

 private:
  explicit Pattern(std::string literal) : literal_(std::move(literal)) {}
  explicit Pattern(Regex regex) : regex_(std::move(regex)) {}

  std::string literal_;
  std::optional<Regex> regex_;
};

/// `text` with every match of `pattern` replaced by `content`, as it stands.
absl::StatusOr<std::string> ReplaceAll(absl::string_view text,
                                       const Pattern& pattern,
                                       absl::string_view content,
                                       const RegexBudget& budget);

/// The normalizer of `node`; null for JSON null.
/// Errors: UNIMPLEMENTED, DATA_LOSS.
absl::StatusOr<std::unique_ptr<const Normalizer>> ParseNormalizer(
    const JsonNode& node);

}  // namespace moescope::model::internal
