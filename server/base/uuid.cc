#include "moescope/base/uuid.h"

#include <cstdint>
#include <string>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

namespace moescope {

std::string NewUuidV7(absl::Time now) {
  thread_local absl::BitGen generator;
  const auto ms = static_cast<std::uint64_t>(absl::ToUnixMillis(now));
  const std::uint64_t a = absl::Uniform<std::uint64_t>(generator);
  const std::uint64_t b = absl::Uniform<std::uint64_t>(generator);
  const std::uint64_t variant = 0x8000 | (b & 0x3fff);
  return absl::StrFormat("%08x-%04x-7%03x-%04x-%012x", (ms >> 16) & 0xffffffff,
                         ms & 0xffff, a & 0xfff, variant, b >> 16);
}

bool IsUuid(absl::string_view text) {
  constexpr absl::string_view kForm = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  if (text.size() != kForm.size()) {
    return false;
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool fits = kForm[i] == '-' ? c == '-'
                                      : absl::ascii_isdigit(c) != 0 ||
                                            (c >= 'a' && c <= 'f');
    if (!fits) {
      return false;
    }
  }
  return true;
}

}  // namespace moescope
