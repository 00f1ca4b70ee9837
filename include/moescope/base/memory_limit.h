#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace moescope {

/// Bytes of memory that this process may use: the machine's, or what its control
/// group (a container's limit) leaves of it when that is less.
std::int64_t MemoryLimitBytes();

/// The smallest memory limit of a control group and of those above it, the
/// greatest number there is when none sets one. `membership` is the text of
/// /proc/self/cgroup, `root` the folder where control groups are mounted, as
/// version 2 or with version 1's `memory` folder. Source: cgroups(7).
std::int64_t ControlGroupLimitBytes(absl::string_view membership,
                                    const std::string& root);

}  // namespace moescope
