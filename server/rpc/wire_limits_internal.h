#pragma once

#include <cstdint>

namespace moescope::internal {

/// Bytes of one message that the server accepts.
inline constexpr int kMaxReceiveBytes = 64 << 20;
inline constexpr std::int32_t kDefaultPageSize = 50;
inline constexpr std::int32_t kMaxPageSize = 1000;
inline constexpr std::int32_t kMaxRequestIdLength = 128;

}  // namespace moescope::internal
