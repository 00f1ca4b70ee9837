#include "server/model/tokenizer/character_map_internal.h"

#include "absl/strings/str_cat.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

namespace moescope::model::internal {
namespace {

// A unit of Darts-clone (darts.h, DoubleArrayUnit): either a value with the
// top bit set, or a label, whether a value follows, and the offset of the block
// of what follows.
constexpr std::uint32_t kIsValue = std::uint32_t{1} << 31;

std::uint32_t Value(std::uint32_t unit) { return unit & ~kIsValue; }
std::uint32_t Label(std::uint32_t unit) { return unit & (kIsValue | 0xFF); }
bool HasValue(std::uint32_t unit) { return ((unit >> 8) & 1) != 0; }
std::uint32_t Offset(std::uint32_t unit) {
  return (unit >> 10) << ((unit & (std::uint32_t{1} << 9)) >> 6);
}

std::uint32_t ReadUnit(absl::string_view bytes, std::size_t at) {
  std::uint32_t unit = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    unit |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i]))
            << (8 * i);
  }
  return unit;
}

}  // namespace

absl::StatusOr<CharacterMap> CharacterMap::Parse(absl::string_view bytes) {
  const auto broken = [](absl::string_view cause) {
    return BrokenTokenizer("precompiled_charsmap", cause);
  };
  CharacterMap map;
  if (bytes.empty()) return map;
  if (bytes.size() < 4) return broken("is shorter than its length field");
  const std::uint32_t size = ReadUnit(bytes, 0);
  bytes.remove_prefix(4);
  if (size % 4 != 0 || size == 0 || size > bytes.size()) {
    return broken(absl::StrCat("says that ", size, " of its ", bytes.size(),
                               " bytes are the trie"));
  }
  map.replacements_ = std::string(bytes.substr(size));
  const std::string& texts = map.replacements_;
  if (texts.empty() || texts.back() != '\0' ||
      InvalidUtf8Offset(texts) != absl::string_view::npos) {
    return broken("has replacements that are no texts");
  }
  for (std::size_t at = 0; at < size; at += 4) {
    const std::uint32_t unit = ReadUnit(bytes, at);
    if ((unit & kIsValue) != 0) {
      const std::uint32_t text = Value(unit);
      if (text >= texts.size() || (text > 0 && texts[text - 1] != '\0')) {
        return broken(absl::StrCat("has a rule whose replacement ", text,
                                   " is none"));
      }
    }
    map.units_.push_back(unit);
  }
  return map;
}

std::optional<CharacterMap::Match> CharacterMap::LongestAt(
    absl::string_view text) const {
  std::optional<Match> longest;
  if (units_.empty()) return longest;
  // Where a damaged trie leads out of itself, it ends.
  std::size_t node = Offset(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size() || Label(units_[node]) != byte) break;
    const bool has_value = HasValue(units_[node]);
    node ^= Offset(units_[node]);
    if (!has_value) continue;
    if (node >= units_.size() || (units_[node] & kIsValue) == 0) break;
    // Ended by its zero byte.
    longest = Match{i + 1, replacements_.data() + Value(units_[node])};
  }
  return longest;
}

}  // namespace moescope::model::internal
