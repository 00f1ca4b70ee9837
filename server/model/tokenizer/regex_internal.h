#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// PCRE2's compiled pattern; its header stays in regex.cc.
struct pcre2_real_code_8;

namespace moescope::model::internal {

/// A part of a text in bytes.
struct Span {
  std::size_t start = 0;
  std::size_t end = 0;
};

/// The time that all regexes of one call may take together, so that a pattern
/// that backtracks without end (in a checkpoint that nobody looked at) ends in
/// an error.
/// Threads: used by one call.
class RegexBudget {
 public:
  explicit RegexBudget(
      std::chrono::milliseconds limit = std::chrono::seconds(15));
  bool Exhausted() const;

 private:
  const std::chrono::steady_clock::time_point deadline_;
};

/// A regular expression in Oniguruma's syntax.
/// Threads: immutable; all methods may run at the same time.
class Regex {
 public:
  /// Errors: UNIMPLEMENTED naming `where` (a construct that PCRE2 lacks, or
  /// that means something else there and is not translated).
  static absl::StatusOr<Regex> Compile(absl::string_view pattern,
                                       absl::string_view where);

  /// Non-overlapping matches in `text` (valid UTF-8) from left to right; an
  /// empty one is left out where the match before it ends.
  /// Errors: RESOURCE_EXHAUSTED field "text" (steps, memory or `budget`).
  absl::StatusOr<std::vector<Span>> FindAll(absl::string_view text,
                                            const RegexBudget& budget) const;

 private:
  struct Deleter {
    void operator()(pcre2_real_code_8* code) const;
  };
  using Code = std::unique_ptr<pcre2_real_code_8, Deleter>;
  explicit Regex(Code code) : code_(std::move(code)) {}

  Code code_;
};

/// Non-overlapping occurrences of `needle` (not empty) from left to right.
std::vector<Span> FindAllLiteral(absl::string_view text,
                                 absl::string_view needle);

/// `pattern` rewritten so that PCRE2 (UTF, UCP, MULTILINE) matches what
/// Oniguruma matches: classes with nested sets and `&&`, `\h`, `\s`, `\w`,
/// `\b`, `\uHHHH`, scripts, POSIX brackets, `(?m)`, `{,n}`, `{n,m}+`.
/// Errors: UNIMPLEMENTED (message without place).
absl::StatusOr<std::string> TranslateOniguruma(absl::string_view pattern);

/// Whether PCRE2 knows `name` as a script.
bool IsScriptName(absl::string_view name);

}  // namespace moescope::model::internal
