#include <utf8proc.h>

#include <cstdint>
#include <string>

#include "server/model/tokenizer/unicode_internal.h"

namespace moescope::model::internal {
namespace {

std::uint8_t Byte(absl::string_view text, std::size_t at) {
  return static_cast<std::uint8_t>(text[at]);
}

utf8proc_category_t Category(char32_t value) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(value));
}

bool InRange(char32_t value, char32_t first, char32_t last) {
  return value >= first && value <= last;
}

}  // namespace

CodePoint DecodeUtf8(absl::string_view text, std::size_t at) {
  const std::uint8_t lead = Byte(text, at);
  if (lead < 0x80) {
    return {lead, 1};
  }
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t value = lead & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    value = (value << 6) | (Byte(text, at + i) & 0x3FU);
  }
  return {value, length};
}

CodePoint DecodeUtf8Before(absl::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && (Byte(text, at) & 0xC0U) == 0x80U) {
    --at;
  }
  return DecodeUtf8(text, at);
}

std::string EncodeUtf8(char32_t value) {
  std::string bytes;
  const auto put = [&bytes](char32_t byte) {
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xC0 | (value >> 6));
    put(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    put(0xE0 | (value >> 12));
    put(0x80 | ((value >> 6) & 0x3F));
    put(0x80 | (value & 0x3F));
  } else {
    put(0xF0 | (value >> 18));
    put(0x80 | ((value >> 12) & 0x3F));
    put(0x80 | ((value >> 6) & 0x3F));
    put(0x80 | (value & 0x3F));
  }
  return bytes;
}

std::string ReplaceInvalidUtf8(absl::string_view bytes) {
  std::string text;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const Utf8Sequence sequence = Utf8SequenceAt(bytes, at);
    if (sequence.valid) {
      text.append(bytes.data() + at, sequence.length);
    } else {
      text += "\xEF\xBF\xBD";
    }
    at += sequence.length;
  }
  return text;
}

bool IsWhitespace(char32_t value) {
  return InRange(value, 0x09, 0x0D) || value == 0x20 || value == 0x85 ||
         value == 0xA0 || value == 0x1680 || InRange(value, 0x2000, 0x200A) ||
         value == 0x2028 || value == 0x2029 || value == 0x202F ||
         value == 0x205F || value == 0x3000;
}

bool IsNumeric(char32_t value) {
  const auto category = Category(value);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool IsPunctuation(char32_t value) {
  if (value < 0x80) {
    return InRange(value, '!', '/') || InRange(value, ':', '@') ||
           InRange(value, '[', '`') || InRange(value, '{', '~');
  }
  const auto category = Category(value);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsMark(char32_t value) {
  const auto category = Category(value);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool IsWord(char32_t value) {
  const auto category = Category(value);
  if ((category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
      category == UTF8PROC_CATEGORY_PC) {
    return true;
  }
  // Symbols that are alphabetic (circled and squared letters), and joiners.
  return InRange(value, 0x24B6, 0x24E9) || InRange(value, 0x1F130, 0x1F149) ||
         InRange(value, 0x1F150, 0x1F169) || InRange(value, 0x1F170, 0x1F189) ||
         InRange(value, 0x200C, 0x200D);
}

std::string ToLower(char32_t value) {
  // The only character whose lower case is two characters.
  if (value == 0x130) {
    return "i\xCC\x87";
  }
  return EncodeUtf8(static_cast<char32_t>(
      utf8proc_tolower(static_cast<utf8proc_int32_t>(value))));
}

}  // namespace moescope::model::internal
