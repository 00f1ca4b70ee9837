#include "moescope/base/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "moescope/base/file.h"

namespace moescope {
namespace {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

// "max", like a file that is not there, sets no limit.
std::int64_t LimitIn(const std::string& path) {
  const auto text = ReadFile(path, 64);
  std::int64_t bytes = 0;
  return text.ok() &&
                 absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &bytes)
             ? bytes
             : kNoLimit;
}

}  // namespace

std::int64_t ControlGroupLimitBytes(absl::string_view membership,
                                    const std::string& root) {
  std::int64_t limit = kNoLimit;
  for (const absl::string_view line : absl::StrSplit(membership, '\n')) {
    // Number, controllers, path; version 2 names no controllers.
    const std::vector<absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || (!parts[1].empty() && parts[1] != "memory")) {
      continue;
    }
    const bool unified = parts[1].empty();
    const std::string mount = unified ? root : absl::StrCat(root, "/memory");
    const char* const file =
        unified ? "/memory.max" : "/memory.limit_in_bytes";
    // Inside a container the path may be the host's, which is not there; the
    // mount itself is the container's group then.
    std::string group(absl::StripSuffix(parts[2], "/"));
    while (true) {
      limit = std::min(limit, LimitIn(absl::StrCat(mount, group, file)));
      if (group.empty()) {
        break;
      }
      group.resize(group.rfind('/') == std::string::npos ? 0
                                                         : group.rfind('/'));
    }
  }
  return limit;
}

std::int64_t MemoryLimitBytes() {
  const std::int64_t machine =
      static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) *
      static_cast<std::int64_t>(::sysconf(_SC_PAGE_SIZE));
  const auto membership = ReadFile("/proc/self/cgroup", 1 << 20);
  return std::min(machine,
                  ControlGroupLimitBytes(membership.ok() ? *membership : "",
                                         "/sys/fs/cgroup"));
}

}  // namespace moescope
