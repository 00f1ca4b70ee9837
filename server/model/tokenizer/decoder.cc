#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "server/model/tokenizer/byte_level_internal.h"
#include "server/model/tokenizer/decoder_internal.h"
#include "server/model/tokenizer/normalizer_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

using Tokens = std::vector<std::string>;

class ByteLevel final : public DecodeStep {
 public:
  absl::StatusOr<Tokens> Apply(Tokens tokens,
                               const RegexBudget& budget) const override {
    std::string bytes;
    for (std::string& token : tokens) {
      bytes += ApplyToOne(std::move(token), budget);
    }
    return Tokens{ReplaceInvalidUtf8(bytes)};
  }
  std::string ApplyToOne(std::string token,
                         const RegexBudget& /*budget*/) const override {
    return FromByteLevel(token).value_or(token);
  }
  bool is_byte_level() const override { return true; }
};

class ByteFallback final : public DecodeStep {
 public:
  absl::StatusOr<Tokens> Apply(Tokens tokens,
                               const RegexBudget& /*budget*/) const override {
    Tokens decoded;
    std::string bytes;
    const auto flush = [&decoded, &bytes] {
      if (bytes.empty()) {
        return;
      }
      if (InvalidUtf8Offset(bytes) == absl::string_view::npos) {
        decoded.push_back(bytes);
      } else {
        // One replacement for every byte, as in the library.
        decoded.insert(decoded.end(), bytes.size(), "\xEF\xBF\xBD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = ByteOf(token); byte.has_value()) {
        bytes += *byte;
        continue;
      }
      flush();
      decoded.push_back(std::move(token));
    }
    flush();
    return decoded;
  }
  std::string ApplyToOne(std::string token,
                         const RegexBudget& /*budget*/) const override {
    const auto byte = ByteOf(token);
    return byte.has_value() ? std::string(1, *byte) : token;
  }

 private:
  static std::optional<char> ByteOf(absl::string_view token) {
    if (token.size() != 6 || !absl::StartsWith(token, "<0x") ||
        token[5] != '>' ||
        !absl::ascii_isxdigit(static_cast<unsigned char>(token[3])) ||
        !absl::ascii_isxdigit(static_cast<unsigned char>(token[4]))) {
      return std::nullopt;
    }
    return absl::HexStringToBytes(token.substr(3, 2))[0];
  }
};

class Metaspace final : public DecodeStep {
 public:
  Metaspace(std::string replacement, bool prepends)
      : replacement_(std::move(replacement)), prepends_(prepends) {}

  absl::StatusOr<Tokens> Apply(Tokens tokens,
                               const RegexBudget& /*budget*/) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const char* const space = i == 0 && prepends_ ? "" : " ";
      tokens[i] = absl::StrReplaceAll(tokens[i], {{replacement_, space}});
    }
    return tokens;
  }
  std::string ApplyToOne(std::string token,
                         const RegexBudget& /*budget*/) const override {
    return absl::StrReplaceAll(token, {{replacement_, " "}});
  }

 private:
  const std::string replacement_;
  const bool prepends_;
};

class Replace final : public DecodeStep {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  absl::StatusOr<Tokens> Apply(Tokens tokens,
                               const RegexBudget& budget) const override {
    for (std::string& token : tokens) {
      MOESCOPE_ASSIGN_OR_RETURN(token,
                                ReplaceAll(token, pattern_, content_, budget));
    }
    return tokens;
  }
  std::string ApplyToOne(std::string token,
                         const RegexBudget& budget) const override {
    // A regex needs whole characters, which an earlier step may have cut.
    if (InvalidUtf8Offset(token) != absl::string_view::npos) {
      return token;
    }
    return ReplaceAll(token, pattern_, content_, budget).value_or(token);
  }

 private:
  const Pattern pattern_;
  const std::string content_;
};

class Strip final : public DecodeStep {
 public:
  Strip(std::string content, int start, int stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}

  absl::StatusOr<Tokens> Apply(Tokens tokens,
                               const RegexBudget& /*budget*/) const override {
    for (std::string& token : tokens) {
      absl::string_view rest = token;
      for (int i = 0; i < start_ && absl::ConsumePrefix(&rest, content_); ++i) {
      }
      for (int i = 0; i < stop_ && absl::ConsumeSuffix(&rest, content_); ++i) {
      }
      token = std::string(rest);
    }
    return tokens;
  }
  // It trims the ends of a text, not of a token inside it.
  std::string ApplyToOne(std::string token,
                         const RegexBudget& /*budget*/) const override {
    return token;
  }

 private:
  const std::string content_;
  const int start_;
  const int stop_;
};

class Fuse final : public DecodeStep {
 public:
  absl::StatusOr<Tokens> Apply(Tokens tokens,
                               const RegexBudget& /*budget*/) const override {
    return Tokens{absl::StrJoin(tokens, "")};
  }
  std::string ApplyToOne(std::string token,
                         const RegexBudget& /*budget*/) const override {
    return token;
  }
};

using StepPtr = std::unique_ptr<const DecodeStep>;

absl::StatusOr<std::string> OneCharacter(const JsonNode& node,
                                         const char* key) {
  MOESCOPE_ASSIGN_OR_RETURN(std::string text, node.String(key));
  if (text.empty() || DecodeUtf8(text, 0).length != text.size()) {
    return BrokenTokenizer(absl::StrCat(node.path(), ".", key),
                           "is not one character");
  }
  return text;
}

absl::StatusOr<StepPtr> ParseMetaspace(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(
      node.OnlyHas({"type", "replacement", "str_rep", "add_prefix_space",
                    "prepend_scheme", "split"}));
  MOESCOPE_ASSIGN_OR_RETURN(std::string replacement,
                            OneCharacter(node, "replacement"));
  MOESCOPE_ASSIGN_OR_RETURN(const auto scheme,
                            node.OptionalString("prepend_scheme"));
  MOESCOPE_ASSIGN_OR_RETURN(const bool add,
                            node.Bool("add_prefix_space", true));
  return std::make_unique<Metaspace>(std::move(replacement),
                                     add && scheme.value_or("") != "never");
}

absl::StatusOr<StepPtr> ParseReplace(const JsonNode& node) {
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "pattern", "content"}));
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
  MOESCOPE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_node));
  MOESCOPE_ASSIGN_OR_RETURN(std::string content, node.String("content"));
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}

absl::StatusOr<StepPtr> ParseStrip(const JsonNode& node) {
  constexpr int kMaxCut = 1024;
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "content", "start", "stop"}));
  MOESCOPE_ASSIGN_OR_RETURN(std::string content, OneCharacter(node, "content"));
  MOESCOPE_ASSIGN_OR_RETURN(const int start, node.Int("start", kMaxCut));
  MOESCOPE_ASSIGN_OR_RETURN(const int stop, node.Int("stop", kMaxCut));
  return std::make_unique<Strip>(std::move(content), start, stop);
}

absl::StatusOr<StepPtr> ParseStep(const JsonNode& node,
                                  const std::string& type) {
  if (type == "Metaspace") {
    return ParseMetaspace(node);
  }
  if (type == "Replace") {
    return ParseReplace(node);
  }
  if (type == "Strip") {
    return ParseStrip(node);
  }
  if (type == "ByteLevel") {
    MOESCOPE_RETURN_IF_ERROR(node.OnlyHas(
        {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
    return std::make_unique<ByteLevel>();
  }
  if (type != "ByteFallback" && type != "Fuse") {
    return node.Unsupported(type);
  }
  MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type"}));
  if (type == "Fuse") {
    return std::make_unique<Fuse>();
  }
  return std::make_unique<ByteFallback>();
}

}  // namespace

absl::Status Decoder::Read(const JsonNode& node) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::string type, node.Type());
  if (type == "Sequence") {
    MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "decoders"}));
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<JsonNode> nodes,
                              node.List("decoders"));
    for (const JsonNode& step : nodes) {
      MOESCOPE_RETURN_IF_ERROR(Read(step));
    }
    return absl::OkStatus();
  }
  MOESCOPE_ASSIGN_OR_RETURN(StepPtr step, ParseStep(node, type));
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<Decoder> Decoder::Parse(const JsonNode& node) {
  Decoder decoder;
  if (!node.IsNull()) {
    decoder.is_null_ = false;
    MOESCOPE_RETURN_IF_ERROR(decoder.Read(node));
  }
  return decoder;
}

absl::StatusOr<std::string> Decoder::Decode(Tokens tokens) const {
  if (is_null_) {
    return absl::StrJoin(tokens, " ");
  }
  const RegexBudget budget;
  for (const auto& step : steps_) {
    MOESCOPE_ASSIGN_OR_RETURN(tokens, step->Apply(std::move(tokens), budget));
  }
  return absl::StrJoin(tokens, "");
}

std::string Decoder::DecodeOne(std::string token) const {
  const RegexBudget budget;
  for (const auto& step : steps_) {
    // Beyond this step it may be bytes, of which the later ones know nothing.
    if (InvalidUtf8Offset(token) != absl::string_view::npos) {
      break;
    }
    token = step->ApplyToOne(std::move(token), budget);
  }
  return token;
}

bool Decoder::is_byte_level() const {
  return std::any_of(steps_.begin(), steps_.end(),
                     [](const auto& step) { return step->is_byte_level(); });
}

}  // namespace moescope::model::internal
