#include "moescope/base/byte_size.h"

#include <array>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace moescope {
namespace {

struct Unit {
  absl::string_view suffix;
  double factor;
};

// Longer suffixes first: "KiB" ends in "B".
constexpr std::array<Unit, 9> kUnits = {{{"KiB", 1024.0},
                                         {"MiB", 1048576.0},
                                         {"GiB", 1073741824.0},
                                         {"TiB", 1099511627776.0},
                                         {"KB", 1e3},
                                         {"MB", 1e6},
                                         {"GB", 1e9},
                                         {"TB", 1e12},
                                         {"B", 1.0}}};

}  // namespace

absl::StatusOr<std::int64_t> ParseByteSize(absl::string_view text) {
  absl::string_view number = text;
  double factor = 1.0;
  for (const Unit& unit : kUnits) {
    if (absl::ConsumeSuffix(&number, unit.suffix)) {
      factor = unit.factor;
      break;
    }
  }
  double value = 0;
  const bool plain =
      number.find_first_not_of("0123456789.") == absl::string_view::npos;
  if (!plain || !absl::SimpleAtod(number, &value) ||
      value * factor >= std::ldexp(1.0, 63)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is not a size: use bytes or KiB, MiB, GiB, TiB"));
  }
  return static_cast<std::int64_t>(value * factor);
}

std::string FormatByteSize(std::int64_t bytes) {
  if (bytes < 1024) {
    return absl::StrCat(bytes, " B");
  }
  constexpr std::array<absl::string_view, 4> kNames = {"KiB", "MiB", "GiB",
                                                       "TiB"};
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kNames.size()) {
    value /= 1024.0;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kNames[unit]);
}

}  // namespace moescope
