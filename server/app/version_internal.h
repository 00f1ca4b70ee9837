#pragma once

namespace moescope {

/// Version of the program; the build says it.
inline constexpr char kVersion[] = MOESCOPE_VERSION;

}  // namespace moescope
