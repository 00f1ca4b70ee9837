#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/arguments.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/utf8.h"

namespace moescope::client {
namespace {

// Far beyond what any server takes; keeps a mistaken path from filling memory.
constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 30;
// More layers than any model has; bounds "0-999999999".
constexpr std::int64_t kMaxLayers = 100000;

// Whatever is wrong with a file of the caller's own, the command line is.
absl::StatusOr<std::string> ReadGiven(absl::string_view flag,
                                      const std::string& path) {
  std::error_code ignored;
  // Reading one says no more than that it is one.
  if (std::filesystem::is_directory(path, ignored)) {
    return InvalidField(flag, absl::StrCat(QuoteName(path), " is a folder"));
  }
  auto text = ReadFile(path, kMaxFileBytes);
  return text.ok() ? std::move(text)
                   : InvalidField(flag, text.status().message());
}

absl::Status AddText(absl::string_view flag, const std::string& label,
                     const std::string& path, v1::Input& input) {
  MOESCOPE_RETURN_IF_ERROR(CheckUtf8(flag, label));
  MOESCOPE_ASSIGN_OR_RETURN(std::string text, ReadGiven(flag, path));
  MOESCOPE_RETURN_IF_ERROR(
      CheckUtf8(absl::StrCat(flag, ": ", QuoteName(path)), text));
  v1::Document& document = *input.add_documents();
  document.set_label(label);
  document.set_text(std::move(text));
  document.set_cut(true);
  return absl::OkStatus();
}

absl::Status AddTokensFile(const std::string& path, v1::Input& input) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::string text,
                            ReadGiven("--tokens-file", path));
  MOESCOPE_RETURN_IF_ERROR(
      CheckUtf8(absl::StrCat("--tokens-file: ", QuoteName(path)), text));
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    auto tokens = ParseTokens(line);
    if (!tokens.ok()) {
      return Annotate(tokens.status(),
                      absl::StrCat("--tokens-file: ", QuoteName(path),
                                   ", line ", number));
    }
    if (tokens->ids_size() > 0) {
      *input.add_documents()->mutable_tokens() = *std::move(tokens);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckUtf8(absl::string_view what, absl::string_view text) {
  const std::size_t wrong = InvalidUtf8Offset(text);
  return wrong == absl::string_view::npos
             ? absl::OkStatus()
             : InvalidField(what, absl::StrCat("byte ", wrong, " of ",
                                               text.size(), " is not UTF-8"));
}

absl::StatusOr<std::vector<std::int64_t>> ParseLayers(absl::string_view text) {
  std::vector<std::int64_t> layers;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    std::int64_t first = 0;
    std::int64_t last = 0;
    if (!absl::SimpleAtoi(ends.front(), &first) ||
        !absl::SimpleAtoi(ends.back(), &last) || first < 0 || last < first ||
        last > kMaxLayers) {
      return absl::InvalidArgumentError(
          absl::StrCat(QuoteName(part),
                       " is neither a layer's number "
                       "nor a range such as 3-5"));
    }
    for (std::int64_t layer = first; layer <= last; ++layer) {
      layers.push_back(layer);
    }
  }
  return layers;
}

absl::StatusOr<v1::TokenIds> ParseTokens(absl::string_view text) {
  v1::TokenIds tokens;
  if (absl::StripAsciiWhitespace(text).empty()) {
    return tokens;
  }
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    part = absl::StripAsciiWhitespace(part);
    // A part of nothing is one empty word: a comma too many.
    for (const absl::string_view word :
         absl::StrSplit(part, absl::ByAnyChar(" \t\r"))) {
      std::int32_t id = 0;
      if (word.empty() && !part.empty()) {
        continue;
      }
      if (!absl::SimpleAtoi(word, &id)) {
        return absl::InvalidArgumentError(
            absl::StrCat(QuoteName(word), " is no token id"));
      }
      tokens.add_ids(id);
    }
  }
  return tokens;
}

absl::StatusOr<v1::Input> BuildInput(const InputArguments& arguments) {
  v1::Input input;
  input.set_sequence_tokens(arguments.sequence_tokens);
  if (arguments.text.has_value()) {
    MOESCOPE_RETURN_IF_ERROR(CheckUtf8("--text", *arguments.text));
    input.add_documents()->set_text(*arguments.text);
  }
  if (arguments.file.has_value()) {
    MOESCOPE_RETURN_IF_ERROR(AddText("--file", "", *arguments.file, input));
  }
  if (arguments.tokens.has_value()) {
    MOESCOPE_ASSIGN_OR_RETURN(*input.add_documents()->mutable_tokens(),
                              ParseTokens(*arguments.tokens));
  }
  if (arguments.tokens_file.has_value()) {
    MOESCOPE_RETURN_IF_ERROR(AddTokensFile(*arguments.tokens_file, input));
  }
  for (const std::string& corpus : arguments.corpora) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(corpus, absl::MaxSplits('=', 1));
    MOESCOPE_RETURN_IF_ERROR(
        AddText("--corpus", parts.first, parts.second, input));
  }
  return input;
}

}  // namespace moescope::client
