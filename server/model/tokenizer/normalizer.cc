#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/model/tokenizer/normalizer_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

using NormalizerPtr = std::unique_ptr<const Normalizer>;

class Chain final : public Normalizer {
 public:
  explicit Chain(std::vector<NormalizerPtr> parts) : parts_(std::move(parts)) {}

  absl::StatusOr<Piece> Apply(Piece piece,
                              const RegexBudget& budget) const override {
    for (const NormalizerPtr& part : parts_) {
      MOESCOPE_ASSIGN_OR_RETURN(piece, part->Apply(std::move(piece), budget));
    }
    return piece;
  }

 private:
  const std::vector<NormalizerPtr> parts_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}

  absl::StatusOr<Piece> Apply(Piece piece,
                              const RegexBudget& /*budget*/) const override {
    if (!piece.text.empty()) {
      piece.text.insert(0, prefix_);
    }
    return piece;
  }

 private:
  const std::string prefix_;
};

class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  absl::StatusOr<Piece> Apply(Piece piece,
                              const RegexBudget& budget) const override {
    MOESCOPE_ASSIGN_OR_RETURN(
        std::string replaced,
        ReplaceAll(piece.text, pattern_, content_, budget));
    piece.text = std::move(replaced);
    return piece;
  }

 private:
  const Pattern pattern_;
  const std::string content_;
};

class UnicodeForm final : public Normalizer {
 public:
  explicit UnicodeForm(int options) : options_(options) {}

  absl::StatusOr<Piece> Apply(Piece piece,
                              const RegexBudget& /*budget*/) const override {
    std::vector<utf8proc_int32_t> points;
    MOESCOPE_ASSIGN_OR_RETURN(points, Decompose(piece.text));
    SortMarks(points);
    if ((options_ & UTF8PROC_COMPOSE) != 0) {
      const auto length = utf8proc_normalize_utf32(
          points.data(), static_cast<utf8proc_ssize_t>(points.size()),
          static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
      if (length < 0) {
        return absl::InternalError("utf8proc can't compose");
      }
      points.resize(static_cast<std::size_t>(length));
    }
    piece.text.clear();
    for (const utf8proc_int32_t point : points) {
      piece.text += EncodeUtf8(static_cast<char32_t>(point));
    }
    return piece;
  }

 private:
  absl::StatusOr<std::vector<utf8proc_int32_t>> Decompose(
      absl::string_view text) const {
    const auto options = static_cast<utf8proc_option_t>(
        UTF8PROC_DECOMPOSE | (options_ & UTF8PROC_COMPAT));
    std::vector<utf8proc_int32_t> points;
    points.reserve(text.size());
    // No character decomposes into more than 18.
    std::array<utf8proc_int32_t, 32> parts{};
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint point = DecodeUtf8(text, at);
      at += point.length;
      int unused = 0;
      const auto count = utf8proc_decompose_char(
          static_cast<utf8proc_int32_t>(point.value), parts.data(),
          static_cast<utf8proc_ssize_t>(parts.size()), options, &unused);
      if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
        return absl::InternalError("utf8proc can't decompose");
      }
      points.insert(points.end(), parts.begin(), parts.begin() + count);
      if (points.size() > kMaxWorkingBytes / sizeof(utf8proc_int32_t)) {
        return TextGrowsTooLong();
      }
    }
    return points;
  }

  // Canonical ordering. utf8proc's own takes quadratic time on long runs.
  static void SortMarks(std::vector<utf8proc_int32_t>& points) {
    const auto combining_class = [](utf8proc_int32_t point) {
      return utf8proc_get_property(point)->combining_class;
    };
    const auto less = [&](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    };
    const auto is_starter = [&](utf8proc_int32_t point) {
      return combining_class(point) == 0;
    };
    auto begin = points.begin();
    while (begin != points.end()) {
      begin = std::find_if_not(begin, points.end(), is_starter);
      const auto end = std::find_if(begin, points.end(), is_starter);
      std::stable_sort(begin, end, less);
      begin = end;
    }
  }

  const int options_;
};

class Lowercase final : public Normalizer {
 public:
  absl::StatusOr<Piece> Apply(Piece piece,
                              const RegexBudget& /*budget*/) const override {
    std::string lower;
    for (std::size_t at = 0; at < piece.text.size();) {
      const CodePoint point = DecodeUtf8(piece.text, at);
      at += point.length;
      lower += ToLower(point.value);
    }
    piece.text = std::move(lower);
    return piece;
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  absl::StatusOr<Piece> Apply(Piece piece,
                              const RegexBudget& /*budget*/) const override {
    std::size_t begin = 0;
    std::size_t end = piece.text.size();
    while (left_ && begin < end) {
      const CodePoint point = DecodeUtf8(piece.text, begin);
      if (!IsWhitespace(point.value)) {
        break;
      }
      begin += point.length;
    }
    while (right_ && begin < end) {
      const CodePoint point = DecodeUtf8Before(piece.text, end);
      if (!IsWhitespace(point.value)) {
        break;
      }
      end -= point.length;
    }
    return Piece{piece.text.substr(begin, end - begin),
                 piece.at_start && begin == 0};
  }

 private:
  const bool left_;
  const bool right_;
};

class StripAccents final : public Normalizer {
 public:
  absl::StatusOr<Piece> Apply(Piece piece,
                              const RegexBudget& /*budget*/) const override {
    std::string kept;
    for (std::size_t at = 0; at < piece.text.size();) {
      const CodePoint point = DecodeUtf8(piece.text, at);
      if (!IsMark(point.value)) {
        kept.append(piece.text, at, point.length);
      } else if (at == 0) {
        piece.at_start = false;
      }
      at += point.length;
    }
    piece.text = std::move(kept);
    return piece;
  }
};

int UnicodeFormOptions(absl::string_view type) {
  if (type == "NFC") {
    return UTF8PROC_COMPOSE;
  }
  if (type == "NFD") {
    return UTF8PROC_DECOMPOSE;
  }
  if (type == "NFKC") {
    return UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
  }
  return type == "NFKD" ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT : 0;
}

absl::StatusOr<NormalizerPtr> ParseChain(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "normalizers"}));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<JsonNode> nodes,
                            node.List("normalizers"));
  std::vector<NormalizerPtr> parts;
  for (const JsonNode& part : nodes) {
    MOESCOPE_ASSIGN_OR_RETURN(NormalizerPtr parsed, ParseNormalizer(part));
    if (parsed == nullptr) {
      return BrokenTokenizer(part.path(), "is null");
    }
    parts.push_back(std::move(parsed));
  }
  return std::make_unique<Chain>(std::move(parts));
}

absl::StatusOr<NormalizerPtr> ParseReplace(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "pattern", "content"}));
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
  MOESCOPE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_node));
  MOESCOPE_ASSIGN_OR_RETURN(std::string content, node.String("content"));
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}

}  // namespace

absl::Status TextGrowsTooLong() {
  return FieldError(absl::StatusCode::kResourceExhausted, "text",
                    absl::StrCat("grows beyond ", kMaxWorkingBytes,
                                 " bytes when it is normalized"));
}

absl::StatusOr<Pattern> Pattern::Parse(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"String", "Regex"}));
  if (node.Has("Regex")) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::string regex, node.String("Regex"));
    MOESCOPE_ASSIGN_OR_RETURN(Regex compiled,
                              Regex::Compile(regex, node.path()));
    return Pattern(std::move(compiled));
  }
  MOESCOPE_ASSIGN_OR_RETURN(std::string literal, node.String("String"));
  if (literal.empty()) {
    return node.Unsupported("");
  }
  return Pattern(std::move(literal));
}

absl::StatusOr<Pattern> Pattern::FromRegex(absl::string_view regex) {
  MOESCOPE_ASSIGN_OR_RETURN(Regex compiled, Regex::Compile(regex, "regex"));
  return Pattern(std::move(compiled));
}

absl::StatusOr<std::vector<Span>> Pattern::FindAll(
    absl::string_view text, const RegexBudget& budget) const {
  if (regex_.has_value()) {
    return regex_->FindAll(text, budget);
  }
  return FindAllLiteral(text, literal_);
}

absl::StatusOr<std::string> ReplaceAll(absl::string_view text,
                                       const Pattern& pattern,
                                       absl::string_view content,
                                       const RegexBudget& budget) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<Span> matches,
                            pattern.FindAll(text, budget));
  if (!content.empty() &&
      matches.size() > (kMaxWorkingBytes - text.size()) / content.size()) {
    return TextGrowsTooLong();
  }
  std::string replaced;
  std::size_t at = 0;
  for (const Span& match : matches) {
    absl::StrAppend(&replaced, text.substr(at, match.start - at), content);
    at = match.end;
  }
  absl::StrAppend(&replaced, text.substr(at));
  return replaced;
}

absl::StatusOr<NormalizerPtr> ParseNormalizer(const JsonNode& node) {
  if (node.IsNull()) {
    return NormalizerPtr();
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::string type, node.Type());
  if (type == "Sequence") {
    return ParseChain(node);
  }
  if (type == "Replace") {
    return ParseReplace(node);
  }
  if (type == "Prepend") {
    MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "prepend"}));
    MOESCOPE_ASSIGN_OR_RETURN(std::string prefix, node.String("prepend"));
    return std::make_unique<Prepend>(std::move(prefix));
  }
  if (type == "Strip") {
    MOESCOPE_RETURN_IF_ERROR(
        node.OnlyHas({"type", "strip_left", "strip_right"}));
    MOESCOPE_ASSIGN_OR_RETURN(const bool left, node.Bool("strip_left"));
    MOESCOPE_ASSIGN_OR_RETURN(const bool right, node.Bool("strip_right"));
    return std::make_unique<Strip>(left, right);
  }
  if (type != "Lowercase" && type != "StripAccents" &&
      UnicodeFormOptions(type) == 0) {
    return node.Unsupported(type);
  }
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type"}));
  if (type == "Lowercase") {
    return std::make_unique<Lowercase>();
  }
  if (type == "StripAccents") {
    return std::make_unique<StripAccents>();
  }
  return std::make_unique<UnicodeForm>(UnicodeFormOptions(type));
}

}  // namespace moescope::model::internal
