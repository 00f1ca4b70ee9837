// Oniguruma's syntax (as the tokenizers library configures it) to PCRE2's.

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/model/tokenizer/regex_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

constexpr std::size_t kMaxPatternBytes = 64 * 1024;
constexpr int kMaxClassDepth = 16;

// Oniguruma's word characters, as the items of a class. Outside a class it goes
// by a table of Latin-1 up to U+00FF, which has superscripts and fractions.
constexpr char kWordItems[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr char kBareWordItems[] =
    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xB2\\xB3\\xB9\\xBC-\\xBE";

struct NamedSet {
  absl::string_view name;
  absl::string_view items;
};

// Names of POSIX brackets and properties whose meaning or spelling differs.
constexpr std::array<NamedSet, 13> kPosixSets = {{
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"alpha", "\\p{Alphabetic}"},
    {"ascii", "\\x00-\\x7F"},
    {"blank", "\\p{Zs}\\t"},
    {"cntrl", "\\p{Cc}"},
    {"digit", "\\p{Nd}"},
    {"lower", "\\p{Lowercase}"},
    {"punct", "\\p{P}\\p{S}"},
    {"space", "\\p{White_Space}"},
    {"upper", "\\p{Uppercase}"},
    {"whitespace", "\\p{White_Space}"},
    {"word", kWordItems},
    {"xdigit", "0-9A-Fa-f"},
}};

// Long names of general categories, which PCRE2 does not know.
constexpr std::array<NamedSet, 39> kCategories = {{
    {"letter", "L"},
    {"casedletter", "L&"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"punct", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
    {"unassigned", "Cn"},
}};

template <std::size_t N>
absl::string_view Lookup(const std::array<NamedSet, N>& sets,
                         absl::string_view name) {
  for (const NamedSet& set : sets) {
    if (set.name == name) {
      return set.items;
    }
  }
  return {};
}

absl::Status Unsupported(absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat(what, " is not translated"));
}

// A set of characters: the items between the brackets of a class.
struct Set {
  std::string items;
  bool negated = false;
  // One character, so that a range can start with it.
  bool single = false;
  std::string Regex() const {
    return absl::StrCat(negated ? "[^" : "[", items, "]");
  }
};

// What a class, or an operand of `&&` in it, is the union of.
struct ClassParts {
  Set own;
  // Regexes of one character that are no items.
  std::vector<std::string> others;
  bool after_single = false;

  std::string Regex() const {
    std::vector<std::string> all = others;
    if (!own.items.empty()) {
      all.push_back(own.Regex());
    }
    return all.size() == 1 ? all[0]
                           : absl::StrCat("(?:", absl::StrJoin(all, "|"), ")");
  }
};

bool IsDigit(char c) {
  return absl::ascii_isdigit(static_cast<unsigned char>(c));
}

bool IsHexDigit(char c) {
  return absl::ascii_isxdigit(static_cast<unsigned char>(c));
}

class Translator {
 public:
  explicit Translator(absl::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    if (pattern_.size() > kMaxPatternBytes) {
      return Unsupported(absl::StrCat("a pattern of ", pattern_.size(),
                                      " bytes (at most ", kMaxPatternBytes,
                                      ")"));
    }
    while (!AtEnd()) {
      MOESCOPE_RETURN_IF_ERROR(Step());
    }
    return std::move(out_);
  }

 private:
  bool AtEnd() const { return at_ >= pattern_.size(); }
  char Peek(std::size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool Looking(absl::string_view text) const {
    return absl::StartsWith(pattern_.substr(at_), text);
  }

  // What a quantifier that follows applies to.
  void Atom(absl::string_view regex) {
    atom_ = out_.size();
    absl::StrAppend(&out_, regex);
  }

  absl::Status Step();
  absl::Status Group();
  absl::Status Escape();
  absl::StatusOr<bool> Interval();
  absl::StatusOr<std::string> Class(int depth);
  absl::Status ClassItem(int depth, ClassParts& parts);
  absl::StatusOr<Set> ClassEscape();
  absl::StatusOr<Set> HexEscape();
  absl::StatusOr<Set> Property();
  absl::StatusOr<Set> PosixBracket();
  absl::StatusOr<std::string> CodePointEscape();

  const absl::string_view pattern_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_ = 0;
  std::vector<std::size_t> groups_;
};

absl::Status Translator::Step() {
  switch (Peek()) {
    case '\\':
      return Escape();
    case '[': {
      MOESCOPE_ASSIGN_OR_RETURN(const std::string set, Class(0));
      Atom(set);
      return absl::OkStatus();
    }
    case '(':
      return Group();
    case ')':
      if (groups_.empty()) {
        return absl::UnimplementedError("unmatched )");
      }
      out_ += ')';
      atom_ = groups_.back();
      groups_.pop_back();
      ++at_;
      return absl::OkStatus();
    case '{': {
      MOESCOPE_ASSIGN_OR_RETURN(const bool interval, Interval());
      if (!interval) {
        Atom("\\{");
        ++at_;
      }
      return absl::OkStatus();
    }
    case '*':
    case '+':
    case '?':
    case '|':
    case '^':
    case '$':
    case '.':
      if (Peek() == '.') {
        atom_ = out_.size();
      }
      out_ += Peek();
      ++at_;
      return absl::OkStatus();
    default: {
      const std::size_t length = DecodeUtf8(pattern_, at_).length;
      Atom(pattern_.substr(at_, length));
      at_ += length;
      return absl::OkStatus();
    }
  }
}

absl::Status Translator::Group() {
  groups_.push_back(out_.size());
  out_ += '(';
  ++at_;
  if (Looking("*")) {
    return Unsupported("(*");
  }
  if (!Looking("?")) {
    return absl::OkStatus();
  }
  ++at_;
  out_ += '?';
  if (absl::StrContains(":=!><'#", Peek()) && !AtEnd()) {
    if (Peek() == '#') {
      return Unsupported("a comment");
    }
    // Only the first character matters: what follows of a lookbehind or a
    // name are ordinary characters to the loop above.
    out_ += Peek();
    ++at_;
    if (out_.back() == '<' && (Peek() == '=' || Peek() == '!')) {
      out_ += Peek();
      ++at_;
    }
    return absl::OkStatus();
  }
  while (Peek() == 'i' || Peek() == 'm' || Peek() == '-') {
    // Oniguruma's `m` lets the dot match line feeds.
    out_ += Peek() == 'm' ? 's' : Peek();
    ++at_;
  }
  if (Peek() != ':' && Peek() != ')') {
    return Unsupported(absl::StrCat("(?", pattern_.substr(at_, 1)));
  }
  if (Peek() == ':') {
    out_ += ':';
    ++at_;
  }
  return absl::OkStatus();
}

// {n}, {n,}, {n,m} and Oniguruma's {,m}. A `+` or `?` behind {n,m} and {n} is
// a second quantifier there, but possessive or lazy in PCRE2.
absl::StatusOr<bool> Translator::Interval() {
  std::size_t i = at_ + 1;
  const auto digits = [this, &i] {
    const std::size_t first = i;
    while (i < pattern_.size() &&
           absl::ascii_isdigit(static_cast<unsigned char>(pattern_[i]))) {
      ++i;
    }
    return std::string(pattern_.substr(first, i - first));
  };
  const std::string low = digits();
  const bool comma = i < pattern_.size() && pattern_[i] == ',';
  if (comma) {
    ++i;
  }
  const std::string high = digits();
  if (i >= pattern_.size() || pattern_[i] != '}' ||
      (low.empty() && high.empty())) {
    return false;
  }
  at_ = i + 1;
  const std::string quantifier =
      absl::StrCat("{", low.empty() ? "0" : low, comma ? "," : "", high, "}");
  const bool fixed = !comma;
  if (Peek() == '+' || (Peek() == '?' && fixed)) {
    out_.insert(atom_, "(?:");
    absl::StrAppend(&out_, quantifier, ")");
  } else {
    absl::StrAppend(&out_, quantifier);
  }
  return true;
}

absl::StatusOr<std::string> Translator::CodePointEscape() {
  // At `u`: exactly four hexadecimal digits.
  const absl::string_view hex = pattern_.substr(at_ + 1, 4);
  if (hex.size() != 4 || !std::all_of(hex.begin(), hex.end(), [](char c) {
        return absl::ascii_isxdigit(static_cast<unsigned char>(c));
      })) {
    return Unsupported("\\u without four digits");
  }
  at_ += 5;
  return absl::StrCat("\\x{", hex, "}");
}

absl::Status Translator::Escape() {
  const char c = Peek(1);
  if (c == 'b' || c == 'B') {
    const std::string word = absl::StrCat("[", kBareWordItems, "]");
    const absl::string_view first = c == 'b' ? "!" : "=";
    const absl::string_view second = c == 'b' ? "=" : "!";
    Atom(absl::StrCat("(?:(?<=", word, ")(?", first, word, ")|(?<!", word,
                      ")(?", second, word, "))"));
    at_ += 2;
    return absl::OkStatus();
  }
  if (absl::StrContains("RXAzZGK", c) && c != '\0') {
    Atom(pattern_.substr(at_, 2));
    at_ += 2;
    return absl::OkStatus();
  }
  if (c == 'k' || c == 'g') {
    // The name behind it reads as ordinary characters.
    Atom(pattern_.substr(at_, 2));
    at_ += 2;
    return absl::OkStatus();
  }
  if (IsDigit(c) && c != '0') {
    const std::size_t begin = at_++;
    while (IsDigit(Peek())) {
      ++at_;
    }
    Atom(pattern_.substr(begin, at_ - begin));
    return absl::OkStatus();
  }
  if (c == 'w' || c == 'W') {
    Atom(Set{kBareWordItems, c == 'W'}.Regex());
    at_ += 2;
    return absl::OkStatus();
  }
  MOESCOPE_ASSIGN_OR_RETURN(const Set set, ClassEscape());
  Atom(set.Regex());
  return absl::OkStatus();
}

// The set that `\letter` stands for, if it stands for one.
std::optional<Set> LetterSet(char letter) {
  switch (letter) {
    case 'w':
      return Set{kWordItems};
    case 'W':
      return Set{kWordItems, true};
    case 's':
      return Set{"\\p{White_Space}"};
    case 'S':
      return Set{"\\P{White_Space}"};
    case 'd':
      return Set{"\\p{Nd}"};
    case 'D':
      return Set{"\\P{Nd}"};
    case 'h':
      return Set{"0-9A-Fa-f"};
    case 'H':
      return Set{"0-9A-Fa-f", true};
    case 'v':
      return Set{"\\x0B", false, true};
    default:
      break;
  }
  if (letter != '\0' && absl::StrContains("bntrfae0", letter)) {
    return Set{std::string{'\\', letter}, false, true};
  }
  return std::nullopt;
}

// At `x`: `\xHH` or `\x{…}`.
absl::StatusOr<Set> Translator::HexEscape() {
  std::size_t length = 1;
  if (Peek(1) == '{') {
    const std::size_t close = pattern_.find('}', at_);
    length = close == absl::string_view::npos ? 1 : close - at_ + 1;
  } else {
    while (length < 3 && IsHexDigit(Peek(length))) {
      ++length;
    }
    // Above it, Oniguruma means a byte, not a character.
    if (length == 3 && Peek(1) >= '8') {
      return Unsupported("a byte of a character");
    }
  }
  Set set{absl::StrCat("\\", pattern_.substr(at_, length)), false, true};
  at_ += length;
  return set;
}

// An escape that stands for one character or a set of them.
absl::StatusOr<Set> Translator::ClassEscape() {
  ++at_;
  if (AtEnd()) {
    return absl::UnimplementedError("a backslash at the end");
  }
  const char c = Peek();
  if (c == 'p' || c == 'P') {
    return Property();
  }
  if (c == 'u') {
    MOESCOPE_ASSIGN_OR_RETURN(std::string items, CodePointEscape());
    return Set{std::move(items), false, true};
  }
  if (c == 'x') {
    return HexEscape();
  }
  if (c == '0' && IsDigit(Peek(1))) {
    return Unsupported("an octal number");
  }
  if (std::optional<Set> set = LetterSet(c); set.has_value()) {
    ++at_;
    return *std::move(set);
  }
  if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
    return Unsupported(absl::StrCat("\\", std::string(1, c)));
  }
  const std::size_t length = DecodeUtf8(pattern_, at_).length;
  Set set{absl::StrCat(length == 1 ? "\\" : "", pattern_.substr(at_, length)),
          false, true};
  at_ += length;
  return set;
}

absl::StatusOr<Set> Translator::Property() {
  // At `p` or `P`.
  bool negated = Peek() == 'P';
  const std::size_t close = pattern_.find('}', at_);
  if (Peek(1) != '{' || close == absl::string_view::npos) {
    return Unsupported("\\p without {name}");
  }
  absl::string_view name = pattern_.substr(at_ + 2, close - at_ - 2);
  at_ = close + 1;
  if (absl::StartsWith(name, "^")) {
    negated = !negated;
    name.remove_prefix(1);
  }
  std::string plain;
  for (const char c : name) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
      plain += absl::ascii_tolower(static_cast<unsigned char>(c));
    }
  }
  const absl::string_view category = Lookup(kCategories, plain);
  const absl::string_view posix = Lookup(kPosixSets, plain);
  if (category.empty() && !posix.empty()) {
    return Set{std::string(posix), negated};
  }
  if (!category.empty()) {
    name = category;
  } else if (plain.size() > 2 && plain != "any" && IsScriptName(name)) {
    // Without `sc:`, newer PCRE2 means characters that the script also uses.
    return Set{absl::StrCat(negated ? "\\P{sc:" : "\\p{sc:", name, "}")};
  }
  return Set{absl::StrCat(negated ? "\\P{" : "\\p{", name, "}")};
}

absl::StatusOr<Set> Translator::PosixBracket() {
  // At `[:`.
  const std::size_t close = pattern_.find(":]", at_ + 2);
  if (close == absl::string_view::npos) {
    return Unsupported("[: without :]");
  }
  absl::string_view name = pattern_.substr(at_ + 2, close - at_ - 2);
  const bool negated = absl::StartsWith(name, "^");
  if (negated) {
    name.remove_prefix(1);
  }
  const absl::string_view items = Lookup(kPosixSets, name);
  if (items.empty()) {
    return Unsupported(absl::StrCat("[:", name, ":]"));
  }
  at_ = close + 2;
  return Set{std::string(items), negated};
}

// One item of a class that is neither its end nor `&&`.
absl::Status Translator::ClassItem(int depth, ClassParts& parts) {
  if (Looking("[") && !Looking("[:")) {
    MOESCOPE_ASSIGN_OR_RETURN(std::string nested, Class(depth + 1));
    parts.others.push_back(std::move(nested));
    parts.after_single = false;
    return absl::OkStatus();
  }
  if (Looking("[:") || Looking("\\")) {
    MOESCOPE_ASSIGN_OR_RETURN(const Set set,
                              Looking("\\") ? ClassEscape() : PosixBracket());
    if (set.negated) {
      parts.others.push_back(set.Regex());
    } else {
      parts.own.items += set.items;
    }
    parts.after_single = set.single;
    return absl::OkStatus();
  }
  if (Peek() == '-') {
    // A range only between two characters of this class.
    const bool range = parts.after_single && Peek(1) != ']' && Peek(1) != '[' &&
                       !(Peek(1) == '&' && Peek(2) == '&');
    parts.own.items += range ? "-" : "\\-";
    parts.after_single = false;
    ++at_;
    return absl::OkStatus();
  }
  const std::size_t length = DecodeUtf8(pattern_, at_).length;
  const bool special = absl::StrContains("]^[", Peek());
  absl::StrAppend(&parts.own.items, special ? "\\" : "",
                  pattern_.substr(at_, length));
  parts.after_single = true;
  at_ += length;
  return absl::OkStatus();
}

// A bracketed class at `[`, as a regex that matches exactly one character.
absl::StatusOr<std::string> Translator::Class(int depth) {
  if (depth > kMaxClassDepth) {
    return Unsupported("a class nested so deeply");
  }
  ++at_;
  const bool negated = Peek() == '^';
  at_ += negated ? 1 : 0;
  std::vector<std::string> operands;  // of &&
  ClassParts parts;
  for (bool first = true; first || Peek() != ']'; first = false) {
    if (AtEnd()) {
      return absl::UnimplementedError("a class without ]");
    }
    if (Looking("&&")) {
      operands.push_back(parts.Regex());
      parts = ClassParts();
      at_ += 2;
      continue;
    }
    MOESCOPE_RETURN_IF_ERROR(ClassItem(depth, parts));
  }
  ++at_;
  if (negated && operands.empty() && parts.others.empty()) {
    parts.own.negated = true;
    return parts.own.Regex();
  }
  std::string all = parts.Regex();
  if (!operands.empty()) {
    all =
        absl::StrCat("(?:(?=", absl::StrJoin(operands, ")(?="), ")", all, ")");
  }
  return negated ? absl::StrCat("(?:(?!", all, ")\\p{Any})") : all;
}

}  // namespace

absl::StatusOr<std::string> TranslateOniguruma(absl::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace moescope::model::internal
