#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/model/tokenizer/added_tokens_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

bool IsSingleWord(absl::string_view text, const Span& match) {
  const bool word_before =
      match.start > 0 && IsWord(DecodeUtf8Before(text, match.start).value);
  const bool word_after =
      match.end < text.size() && IsWord(DecodeUtf8(text, match.end).value);
  return !word_before && !word_after;
}

// `match` with the white space that its token swallows. With lstrip it starts
// at `done`, up to which the text is taken, or behind; so nothing may be left
// of it.
Span Widen(absl::string_view text, Span match, std::size_t done,
           const AddedToken& token) {
  while (token.lstrip && match.start > done) {
    const CodePoint point = DecodeUtf8Before(text, match.start);
    if (!IsWhitespace(point.value)) {
      break;
    }
    match.start -= point.length;
  }
  if (token.lstrip) {
    match.start = std::max(match.start, done);
  }
  while (token.rstrip && match.end < text.size()) {
    const CodePoint point = DecodeUtf8(text, match.end);
    if (!IsWhitespace(point.value)) {
      break;
    }
    match.end += point.length;
  }
  return match;
}

absl::StatusOr<AddedToken> ParseToken(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(
      node.OnlyHas({"id", "content", "single_word", "lstrip", "rstrip",
                    "normalized", "special"}));
  AddedToken token;
  MOESCOPE_ASSIGN_OR_RETURN(token.id, node.Int("id", kMaxTokenId));
  MOESCOPE_ASSIGN_OR_RETURN(token.content, node.String("content"));
  MOESCOPE_ASSIGN_OR_RETURN(token.single_word, node.Bool("single_word", false));
  MOESCOPE_ASSIGN_OR_RETURN(token.lstrip, node.Bool("lstrip", false));
  MOESCOPE_ASSIGN_OR_RETURN(token.rstrip, node.Bool("rstrip", false));
  MOESCOPE_ASSIGN_OR_RETURN(token.normalized, node.Bool("normalized", true));
  MOESCOPE_ASSIGN_OR_RETURN(token.special, node.Bool("special", false));
  if (token.content.size() > kMaxAddedTokenBytes) {
    return UnsupportedTokenizer(
        absl::StrCat(node.path(), ".content of ", token.content.size(),
                     " bytes (at most ", kMaxAddedTokenBytes, ")"));
  }
  return token;
}

absl::Status CheckAgainstModel(const AddedToken& token, const Bpe& model,
                               const std::string& where) {
  const auto own_id = model.Find(token.content);
  if (own_id.has_value() && *own_id != token.id) {
    return BrokenTokenizer(
        where, absl::StrCat("gives id ", token.id, " to \"", token.content,
                            "\", the vocabulary ", *own_id));
  }
  const std::string* const other = model.Token(token.id);
  if (other != nullptr && *other != token.content) {
    return BrokenTokenizer(
        where, absl::StrCat("gives id ", token.id, " to \"", token.content,
                            "\", the vocabulary to \"", *other, "\""));
  }
  return absl::OkStatus();
}

}  // namespace

void Trie::Add(absl::string_view key, std::size_t value) {
  std::uint32_t node = 0;
  for (const char c : key) {
    const std::uint64_t edge =
        (static_cast<std::uint64_t>(node) << 8) | static_cast<unsigned char>(c);
    const auto next = static_cast<std::uint32_t>(values_.size());
    const auto [found, is_new] = edges_.try_emplace(edge, next);
    if (is_new) {
      values_.push_back(-1);
    }
    node = found->second;
  }
  // The first of equal keys counts.
  if (values_[node] < 0) {
    values_[node] = static_cast<std::ptrdiff_t>(value);
  }
}

std::optional<Trie::Match> Trie::LongestAt(absl::string_view text,
                                           std::size_t at) const {
  std::optional<Match> longest;
  ForEachAt(text, at, [&longest](std::size_t value, std::size_t length) {
    longest = Match{value, length};
  });
  return longest;
}

AddedTokens AddedTokens::FromList(std::vector<AddedToken> tokens) {
  AddedTokens added;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    added.raw_.Add(tokens[i].content, i);
    added.index_.emplace(tokens[i].id, i);
  }
  added.tokens_ = std::move(tokens);
  return added;
}

absl::StatusOr<AddedTokens> AddedTokens::Parse(const JsonNode& root,
                                               const Bpe& model,
                                               const Normalizer* normalizer) {
  AddedTokens added;
  if (!root.Has("added_tokens")) {
    return added;
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<JsonNode> nodes,
                            root.List("added_tokens"));
  absl::flat_hash_map<std::string, std::int32_t> ids;
  const RegexBudget budget;
  for (const JsonNode& node : nodes) {
    MOESCOPE_ASSIGN_OR_RETURN(AddedToken token, ParseToken(node));
    if (token.content.empty()) {
      continue;
    }
    MOESCOPE_RETURN_IF_ERROR(CheckAgainstModel(token, model, node.path()));
    const bool new_content = ids.emplace(token.content, token.id).second;
    const bool new_id =
        added.index_.emplace(token.id, added.tokens_.size()).second;
    if (!new_content || !new_id) {
      return BrokenTokenizer(
          node.path(), absl::StrCat("repeats \"", token.content, "\" or id ",
                                    token.id, " of an earlier added token"));
    }
    token.normalized_content = token.content;
    if (token.normalized && normalizer != nullptr) {
      MOESCOPE_ASSIGN_OR_RETURN(
          Piece piece, normalizer->Apply({token.content, false}, budget));
      token.normalized_content = std::move(piece.text);
    }
    if (token.normalized_content.empty()) {
      return BrokenTokenizer(node.path(), "is empty once it is normalized");
    }
    Trie& trie = token.normalized ? added.normalized_ : added.raw_;
    trie.Add(token.normalized_content, added.tokens_.size());
    added.tokens_.push_back(std::move(token));
  }
  return added;
}

std::vector<Segment> AddedTokens::Split(const Piece& piece,
                                        const Trie& trie) const {
  const absl::string_view text = piece.text;
  std::vector<Segment> segments;
  std::size_t done = 0;
  const auto put_text = [&](std::size_t end) {
    if (done < end) {
      segments.push_back({std::nullopt,
                          {std::string(text.substr(done, end - done)),
                           piece.at_start && done == 0}});
    }
  };
  std::size_t at = trie.empty() ? text.size() : 0;
  while (at < text.size()) {
    const auto found = trie.LongestAt(text, at);
    if (!found.has_value()) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[found->value];
    const Span match{at, at + found->length};
    at = match.end;
    if (token.single_word && !IsSingleWord(text, match)) {
      continue;
    }
    const Span wide = Widen(text, match, done, token);
    if (wide.start >= wide.end) {
      continue;
    }
    put_text(wide.start);
    segments.push_back({token.id, {}});
    done = wide.end;
  }
  put_text(text.size());
  return segments;
}

std::vector<Segment> AddedTokens::SplitRaw(absl::string_view text) const {
  return Split({std::string(text), true}, raw_);
}

std::vector<Segment> AddedTokens::SplitNormalized(Piece piece) const {
  return Split(piece, normalized_);
}

const AddedToken* AddedTokens::Find(std::int32_t id) const {
  const auto found = index_.find(id);
  return found == index_.end() ? nullptr : &tokens_[found->second];
}

std::optional<std::int32_t> AddedTokens::FindContent(
    absl::string_view content) const {
  for (const AddedToken& token : tokens_) {
    if (token.content == content) return token.id;
  }
  return std::nullopt;
}

}  // namespace moescope::model::internal
