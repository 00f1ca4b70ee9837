#include "server/model/tokenizer/regex_internal.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

// Backtracking steps from one starting point: half a second at worst.
constexpr std::uint32_t kMatchLimit = 20'000'000;
constexpr std::uint32_t kHeapLimitKib = 512 * 1024;

struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const {
    pcre2_match_context_free(context);
  }
};
struct FreeCompileContext {
  void operator()(pcre2_compile_context* context) const {
    pcre2_compile_context_free(context);
  }
};

PCRE2_SPTR Bytes(absl::string_view text) {
  // A default-constructed view has no address, which PCRE2 would refuse.
  static constexpr char kEmpty[] = "";
  return reinterpret_cast<PCRE2_SPTR>(text.data() == nullptr ? kEmpty
                                                             : text.data());
}

// Called at every starting point; the step limit counts from there only.
int StopWhenExhausted(pcre2_callout_block* /*block*/, void* budget) {
  return static_cast<const RegexBudget*>(budget)->Exhausted()
             ? PCRE2_ERROR_CALLOUT
             : 0;
}

std::string ErrorText(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

pcre2_code* CompileRaw(absl::string_view pattern, int* error_code) {
  const std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(
      pcre2_compile_context_create(nullptr));
  // `.` excludes line feed alone, as in Oniguruma, however PCRE2 was built.
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_bsr(context.get(), PCRE2_BSR_UNICODE);
  PCRE2_SIZE error_offset = 0;
  return pcre2_compile(
      Bytes(pattern), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
      error_code, &error_offset, context.get());
}

absl::Status TooManySteps(int code) {
  ErrorDetails details;
  details.reason = "REGEX_LIMIT";
  const std::string description =
      absl::StrCat("a regex of the tokenizer needs too much work on it (",
                   code == PCRE2_ERROR_CALLOUT ? "time limit" : ErrorText(code),
                   "); send token ids instead");
  details.fields.push_back({"text", description});
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("text: ", description), details);
}

}  // namespace

RegexBudget::RegexBudget(std::chrono::milliseconds limit)
    : deadline_(std::chrono::steady_clock::now() + limit) {}

bool RegexBudget::Exhausted() const {
  return std::chrono::steady_clock::now() >= deadline_;
}

void Regex::Deleter::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

absl::StatusOr<Regex> Regex::Compile(absl::string_view pattern,
                                     absl::string_view where) {
  const absl::StatusOr<std::string> translated = TranslateOniguruma(pattern);
  if (!translated.ok()) {
    return UnsupportedTokenizer(
        absl::StrCat(where, " (regex \"", pattern,
                     "\": ", translated.status().message(), ")"));
  }
  int error = 0;
  Code code(CompileRaw(absl::StrCat("(?C1)(?:", *translated, ")"), &error));
  if (code == nullptr) {
    return UnsupportedTokenizer(absl::StrCat(where, " (regex \"", pattern,
                                             "\": ", ErrorText(error), ")"));
  }
  // Where there is no just-in-time compiler the interpreter does the same.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

absl::StatusOr<std::vector<Span>> Regex::FindAll(
    absl::string_view text, const RegexBudget& budget) const {
  const std::unique_ptr<pcre2_match_context, FreeMatchContext> context(
      pcre2_match_context_create(nullptr));
  const std::unique_ptr<pcre2_match_data, FreeMatchData> data(
      pcre2_match_data_create(1, nullptr));
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  // The C interface has no const; the callback only reads.
  pcre2_set_callout(context.get(), StopWhenExhausted,
                    const_cast<RegexBudget*>(&budget));
  std::vector<Span> matches;
  std::size_t at = 0;
  while (at <= text.size()) {
    // Validity was checked once; PCRE2 would do so from `at` every time.
    int found = pcre2_match(code_.get(), Bytes(text), text.size(), at,
                            PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(code_.get(), Bytes(text), text.size(), at,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(),
                          context.get());
    }
    if (found == PCRE2_ERROR_NOMATCH) {
      break;
    }
    if (found < 0) {
      return TooManySteps(found);
    }
    const PCRE2_SIZE* const ovector = pcre2_get_ovector_pointer(data.get());
    // `\K` inside a lookahead can put the start behind the end.
    const Span match{std::min(ovector[0], ovector[1]), ovector[1]};
    const bool repeats = !matches.empty() && match.start == match.end &&
                         matches.back().end == match.end;
    if (repeats) {
      at += at < text.size() ? DecodeUtf8(text, at).length : 1;
      continue;
    }
    matches.push_back(match);
    at = match.end;
  }
  return matches;
}

std::vector<Span> FindAllLiteral(absl::string_view text,
                                 absl::string_view needle) {
  std::vector<Span> matches;
  std::size_t at = text.find(needle);
  while (at != absl::string_view::npos) {
    matches.push_back({at, at + needle.size()});
    at = text.find(needle, at + needle.size());
  }
  return matches;
}

bool IsScriptName(absl::string_view name) {
  int error = 0;
  pcre2_code* const code =
      CompileRaw(absl::StrCat("\\p{sc:", name, "}"), &error);
  pcre2_code_free(code);
  return code != nullptr;
}

}  // namespace moescope::model::internal
