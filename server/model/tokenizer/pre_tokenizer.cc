#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/model/tokenizer/byte_level_internal.h"
#include "server/model/tokenizer/pre_tokenizer_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

constexpr char kGpt2Regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

// Matches and what lies between them, in order; nothing of it is empty but
// empty matches.
std::vector<SplitPart> Cover(std::size_t size, const std::vector<Span>& matches,
                             bool invert) {
  std::vector<SplitPart> parts;
  std::size_t at = 0;
  for (const Span& match : matches) {
    if (match.start > at) {
      parts.push_back({{at, match.start}, invert});
    }
    parts.push_back({match, !invert});
    at = match.end;
  }
  if (at < size) {
    parts.push_back({{at, size}, invert});
  }
  return parts;
}

std::vector<Piece> CutPiece(const Piece& piece,
                            const std::vector<SplitPart>& parts,
                            SplitBehavior behavior) {
  std::vector<Piece> cut;
  for (const Span& span : JoinParts(parts, behavior)) {
    if (span.end > span.start) {
      cut.push_back({piece.text.substr(span.start, span.end - span.start),
                     piece.at_start && span.start == 0});
    }
  }
  return cut;
}

// The parts of `text` whose characters are in `is_delimiter`, one by one.
template <typename Predicate>
std::vector<SplitPart> CoverCharacters(absl::string_view text,
                                       Predicate is_delimiter) {
  std::vector<Span> matches;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = DecodeUtf8(text, at);
    if (is_delimiter(point.value)) {
      matches.push_back({at, at + point.length});
    }
    at += point.length;
  }
  return Cover(text.size(), matches, /*invert=*/false);
}

// A pre-tokenizer that treats each piece on its own.
class PieceWise : public PreTokenizer {
 public:
  absl::StatusOr<std::vector<Piece>> Apply(
      std::vector<Piece> pieces, const RegexBudget& budget) const final {
    std::vector<Piece> cut;
    for (Piece& piece : pieces) {
      MOESCOPE_ASSIGN_OR_RETURN(std::vector<Piece> parts,
                                Cut(std::move(piece), budget));
      std::move(parts.begin(), parts.end(), std::back_inserter(cut));
    }
    return cut;
  }

 private:
  virtual absl::StatusOr<std::vector<Piece>> Cut(
      Piece piece, const RegexBudget& budget) const = 0;
};

class Chain final : public PreTokenizer {
 public:
  explicit Chain(std::vector<PreTokenizerPtr> parts)
      : parts_(std::move(parts)) {}

  absl::StatusOr<std::vector<Piece>> Apply(
      std::vector<Piece> pieces, const RegexBudget& budget) const override {
    for (const PreTokenizerPtr& part : parts_) {
      MOESCOPE_ASSIGN_OR_RETURN(pieces, part->Apply(std::move(pieces), budget));
    }
    return pieces;
  }

 private:
  const std::vector<PreTokenizerPtr> parts_;
};

class Split final : public PieceWise {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

 private:
  absl::StatusOr<std::vector<Piece>> Cut(
      Piece piece, const RegexBudget& budget) const override {
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<Span> matches,
                              pattern_.FindAll(piece.text, budget));
    return CutPiece(piece, Cover(piece.text.size(), matches, invert_),
                    behavior_);
  }

  const Pattern pattern_;
  const SplitBehavior behavior_;
  const bool invert_;
};

class ByteLevel final : public PieceWise {
 public:
  ByteLevel(bool add_prefix_space, std::optional<Pattern> pattern)
      : add_prefix_space_(add_prefix_space), pattern_(std::move(pattern)) {}

 private:
  absl::StatusOr<std::vector<Piece>> Cut(
      Piece piece, const RegexBudget& budget) const override {
    if (add_prefix_space_ && !absl::StartsWith(piece.text, " ")) {
      piece.text.insert(0, " ");
    }
    std::vector<Piece> cut;
    if (pattern_.has_value()) {
      MOESCOPE_ASSIGN_OR_RETURN(const std::vector<Span> matches,
                                pattern_->FindAll(piece.text, budget));
      cut = CutPiece(piece, Cover(piece.text.size(), matches, false),
                     SplitBehavior::kIsolated);
    } else {
      cut.push_back(std::move(piece));
    }
    for (Piece& part : cut) {
      part.text = ToByteLevel(part.text);
    }
    return cut;
  }

  const bool add_prefix_space_;
  const std::optional<Pattern> pattern_;
};

enum class PrependScheme { kAlways, kFirst, kNever };

class Metaspace final : public PieceWise {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}

 private:
  absl::StatusOr<std::vector<Piece>> Cut(
      Piece piece, const RegexBudget& /*budget*/) const override {
    piece.text = absl::StrReplaceAll(piece.text, {{" ", replacement_}});
    const bool wanted = scheme_ == PrependScheme::kAlways ||
                        (scheme_ == PrependScheme::kFirst && piece.at_start);
    if (wanted && !absl::StartsWith(piece.text, replacement_)) {
      piece.text.insert(0, replacement_);
    }
    if (!split_) {
      return std::vector<Piece>{std::move(piece)};
    }
    const std::vector<Span> matches = FindAllLiteral(piece.text, replacement_);
    return CutPiece(piece, Cover(piece.text.size(), matches, false),
                    SplitBehavior::kMergedWithNext);
  }

  const std::string replacement_;
  const PrependScheme scheme_;
  const bool split_;
};

// Digits, Punctuation and WhitespaceSplit: single characters cut the text.
class CharacterSplit final : public PieceWise {
 public:
  CharacterSplit(bool (*is_delimiter)(char32_t), SplitBehavior behavior)
      : is_delimiter_(is_delimiter), behavior_(behavior) {}

 private:
  absl::StatusOr<std::vector<Piece>> Cut(
      Piece piece, const RegexBudget& /*budget*/) const override {
    return CutPiece(piece, CoverCharacters(piece.text, is_delimiter_),
                    behavior_);
  }

  bool (*const is_delimiter_)(char32_t);
  const SplitBehavior behavior_;
};

// `\w+|[^\w\s]+`: runs of word characters and runs of other visible ones.
class Whitespace final : public PieceWise {
 private:
  enum class Kind { kSpace, kWord, kOther };

  static Kind KindOf(char32_t value) {
    if (IsWord(value)) {
      return Kind::kWord;
    }
    return IsWhitespace(value) ? Kind::kSpace : Kind::kOther;
  }

  absl::StatusOr<std::vector<Piece>> Cut(
      Piece piece, const RegexBudget& /*budget*/) const override {
    std::vector<Piece> runs;
    Kind last = Kind::kSpace;
    for (std::size_t at = 0; at < piece.text.size();) {
      const CodePoint point = DecodeUtf8(piece.text, at);
      const Kind kind = KindOf(point.value);
      if (kind != Kind::kSpace) {
        if (kind != last) {
          runs.push_back({"", piece.at_start && at == 0});
        }
        runs.back().text.append(piece.text, at, point.length);
      }
      last = kind;
      at += point.length;
    }
    return runs;
  }
};

absl::StatusOr<SplitBehavior> ParseBehavior(const JsonNode& node) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::string name, node.String("behavior"));
  if (name == "Removed") {
    return SplitBehavior::kRemoved;
  }
  if (name == "Isolated") {
    return SplitBehavior::kIsolated;
  }
  if (name == "MergedWithPrevious") {
    return SplitBehavior::kMergedWithPrevious;
  }
  if (name == "MergedWithNext") {
    return SplitBehavior::kMergedWithNext;
  }
  if (name == "Contiguous") {
    return SplitBehavior::kContiguous;
  }
  return UnsupportedTokenizer(
      absl::StrCat(node.path(), ".behavior \"", name, "\""));
}

absl::StatusOr<PreTokenizerPtr> ParseChain(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "pretokenizers"}));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<JsonNode> nodes,
                            node.List("pretokenizers"));
  std::vector<PreTokenizerPtr> parts;
  for (const JsonNode& part : nodes) {
    MOESCOPE_ASSIGN_OR_RETURN(PreTokenizerPtr parsed, ParsePreTokenizer(part));
    if (parsed == nullptr) {
      return BrokenTokenizer(part.path(), "is null");
    }
    parts.push_back(std::move(parsed));
  }
  return std::make_unique<Chain>(std::move(parts));
}

absl::StatusOr<PreTokenizerPtr> ParseByteLevel(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(
      node.OnlyHas({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  MOESCOPE_ASSIGN_OR_RETURN(const bool prefix, node.Bool("add_prefix_space"));
  MOESCOPE_ASSIGN_OR_RETURN(const bool use_regex, node.Bool("use_regex", true));
  std::optional<Pattern> pattern;
  if (use_regex) {
    MOESCOPE_ASSIGN_OR_RETURN(pattern, Pattern::FromRegex(kGpt2Regex));
  }
  return std::make_unique<ByteLevel>(prefix, std::move(pattern));
}

absl::StatusOr<PreTokenizerPtr> ParseSplit(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(
      node.OnlyHas({"type", "pattern", "behavior", "invert"}));
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
  MOESCOPE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_node));
  MOESCOPE_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(node));
  MOESCOPE_ASSIGN_OR_RETURN(const bool invert, node.Bool("invert", false));
  return std::make_unique<Split>(std::move(pattern), behavior, invert);
}

absl::StatusOr<PreTokenizerPtr> ParseMetaspace(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(
      node.OnlyHas({"type", "replacement", "str_rep", "add_prefix_space",
                    "prepend_scheme", "split"}));
  MOESCOPE_ASSIGN_OR_RETURN(std::string replacement,
                            node.String("replacement"));
  if (replacement.empty() ||
      DecodeUtf8(replacement, 0).length != replacement.size()) {
    return BrokenTokenizer(absl::StrCat(node.path(), ".replacement"),
                           "is not one character");
  }
  MOESCOPE_ASSIGN_OR_RETURN(const auto named,
                            node.OptionalString("prepend_scheme"));
  MOESCOPE_ASSIGN_OR_RETURN(const bool add_prefix_space,
                            node.Bool("add_prefix_space", true));
  const std::string scheme =
      named.value_or(add_prefix_space ? "always" : "never");
  if (!add_prefix_space && scheme != "never") {
    return BrokenTokenizer(
        node.path(),
        absl::StrCat("has add_prefix_space false and prepend_scheme \"", scheme,
                     "\""));
  }
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return UnsupportedTokenizer(
        absl::StrCat(node.path(), ".prepend_scheme \"", scheme, "\""));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const bool split, node.Bool("split", true));
  return std::make_unique<Metaspace>(std::move(replacement),
                                     scheme == "always" ? PrependScheme::kAlways
                                     : scheme == "first"
                                         ? PrependScheme::kFirst
                                         : PrependScheme::kNever,
                                     split);
}

absl::StatusOr<PreTokenizerPtr> ParseDigits(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "individual_digits"}));
  MOESCOPE_ASSIGN_OR_RETURN(const bool single, node.Bool("individual_digits"));
  return std::make_unique<CharacterSplit>(
      IsNumeric,
      single ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

absl::StatusOr<PreTokenizerPtr> ParsePunctuation(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "behavior"}));
  SplitBehavior behavior = SplitBehavior::kIsolated;
  if (node.Has("behavior")) {
    MOESCOPE_ASSIGN_OR_RETURN(behavior, ParseBehavior(node));
  }
  return std::make_unique<CharacterSplit>(IsPunctuation, behavior);
}

}  // namespace

std::vector<Span> JoinParts(const std::vector<SplitPart>& parts,
                            SplitBehavior behavior) {
  std::vector<Span> joined;
  bool previous = false;
  switch (behavior) {
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated:
      for (const SplitPart& part : parts) {
        if (behavior == SplitBehavior::kIsolated || !part.is_match) {
          joined.push_back(part.span);
        }
      }
      break;
    case SplitBehavior::kContiguous:
    case SplitBehavior::kMergedWithPrevious:
      for (const SplitPart& part : parts) {
        const bool join = behavior == SplitBehavior::kContiguous
                              ? part.is_match == previous
                              : part.is_match && !previous;
        if (join && !joined.empty()) {
          joined.back().end = part.span.end;
        } else {
          joined.push_back(part.span);
        }
        previous = part.is_match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->is_match && !previous && !joined.empty()) {
          joined.back().start = part->span.start;
        } else {
          joined.push_back(part->span);
        }
        previous = part->is_match;
      }
      std::reverse(joined.begin(), joined.end());
      break;
  }
  return joined;
}

absl::StatusOr<PreTokenizerPtr> ParsePreTokenizer(const JsonNode& node) {
  if (node.IsNull()) {
    return PreTokenizerPtr();
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::string type, node.Type());
  if (type == "Sequence") {
    return ParseChain(node);
  }
  if (type == "ByteLevel") {
    return ParseByteLevel(node);
  }
  if (type == "Split") {
    return ParseSplit(node);
  }
  if (type == "Metaspace") {
    return ParseMetaspace(node);
  }
  if (type == "Digits") {
    return ParseDigits(node);
  }
  if (type == "Punctuation") {
    return ParsePunctuation(node);
  }
  if (type != "Whitespace" && type != "WhitespaceSplit") {
    return node.Unsupported(type);
  }
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type"}));
  if (type == "Whitespace") {
    return std::make_unique<Whitespace>();
  }
  return std::make_unique<CharacterSplit>(IsWhitespace,
                                          SplitBehavior::kRemoved);
}

}  // namespace moescope::model::internal
