#include "moescope/base/machine.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "moescope/base/file.h"
#include "moescope/base/memory_limit.h"

namespace moescope {
namespace {

// A thousand cores' worth.
constexpr std::size_t kMaxBytes = std::size_t{8} << 20;

// The value of the first line "key : value" of a file of /proc; empty: none.
std::string ProcValue(const std::string& path, absl::string_view key) {
  const auto text = ReadFile(path, kMaxBytes);
  if (!text.ok()) {
    return "";
  }
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (absl::ConsumePrefix(&line, key)) {
      line = absl::StripAsciiWhitespace(line);
      if (absl::ConsumePrefix(&line, ":")) {
        return std::string(absl::StripAsciiWhitespace(line));
      }
    }
  }
  return "";
}

}  // namespace

Machine DescribeMachine() {
  Machine machine;
  machine.processor = ProcValue("/proc/cpuinfo", "model name");
  machine.memory_bytes = MemoryLimitBytes();
  const std::string available = ProcValue("/proc/meminfo", "MemAvailable");
  std::int64_t kib = 0;
  if (absl::SimpleAtoi(absl::StripSuffix(available, " kB"), &kib)) {
    machine.free_memory_bytes = std::min(kib * 1024, machine.memory_bytes);
  }
  return machine;
}

}  // namespace moescope
