#include "moescope/base/quote_name.h"

#include "absl/strings/str_cat.h"

#include "moescope/base/log.h"

namespace moescope {

std::string Shortened(absl::string_view text, std::size_t max_bytes) {
  constexpr absl::string_view kMark = "...";
  if (text.size() <= max_bytes) {
    return std::string(text);
  }
  std::size_t length = max_bytes < kMark.size() ? 0 : max_bytes - kMark.size();
  // A byte 10xxxxxx goes on with a character.
  while (length > 0 &&
         (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) {
    --length;
  }
  return absl::StrCat(text.substr(0, length), kMark);
}

std::string QuoteName(absl::string_view name) {
  constexpr std::size_t kMaxBytes = 120;
  return JsonQuote(Shortened(name, kMaxBytes));
}

}  // namespace moescope
