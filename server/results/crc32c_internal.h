#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace moescope::internal {

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of `bytes`, going on
/// from `crc` (0: from the start). Crc32c("123456789") is 0xE3069283.
std::uint32_t Crc32c(absl::string_view bytes, std::uint32_t crc = 0);

}  // namespace moescope::internal
