#include "client/cli/heat_map.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/table.h"

namespace moescope::client {
namespace {

constexpr std::size_t kShades = 5;
constexpr const char* kUnicode[kShades] = {"  ", "░░", "▒▒", "▓▓", "██"};
constexpr const char* kPlain[kShades] = {"..", "--", "++", "**", "##"};
// Wider maps would not fit a terminal with numbers in them.
constexpr std::size_t kMaxRowsWithNumbers = 8;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
};

// Over all but the diagonal, which is 1 and would hide the differences.
Range OffDiagonal(std::size_t rows, absl::Span<const double> values) {
  Range range;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i / rows != i % rows && std::isfinite(values[i])) {
      range.low = std::min(range.low, values[i]);
      range.high = std::max(range.high, values[i]);
    }
  }
  return range;
}

std::string Shade(double value, const Range& range, bool plain) {
  if (!std::isfinite(value)) {
    return "??";
  }
  const double width = range.high - range.low;
  const double share = width > 0 ? (value - range.low) / width : 1.0;
  const auto level = static_cast<std::size_t>(
      std::clamp(share, 0.0, 1.0) * (kShades - 1) + 0.5);
  return plain ? kPlain[level] : kUnicode[level];
}

}  // namespace

std::string HeatMap(absl::Span<const std::string> names,
                    absl::Span<const double> values, bool plain) {
  const std::size_t rows = names.size();
  const bool numbers = rows <= kMaxRowsWithNumbers;
  const Range range = OffDiagonal(rows, values);
  std::size_t margin = 0;
  for (const std::string& name : names) {
    margin = std::max(margin, name.size());
  }
  std::string out(margin, ' ');
  for (const std::string& name : names) {
    // A cell is a space and two characters of shade, then perhaps a number.
    absl::StrAppend(
        &out, " ",
        numbers ? absl::StrFormat("%8s", name) : absl::StrFormat("%2s", name));
  }
  out += "\n";
  for (std::size_t i = 0; i < rows; ++i) {
    absl::StrAppend(&out, std::string(margin - names[i].size(), ' '), names[i]);
    for (std::size_t j = 0; j < rows; ++j) {
      const double value = values[i * rows + j];
      absl::StrAppend(&out, " ", Shade(value, range, plain));
      if (numbers) {
        absl::StrAppend(&out, absl::StrFormat("%6.2f", value));
      }
    }
    out += "\n";
  }
  if (range.low <= range.high) {
    absl::StrAppend(&out, "off the diagonal: ", plain ? kPlain[0] : "lightest",
                    " ", absl::StrFormat("%.4f", range.low), ", ",
                    plain ? kPlain[kShades - 1] : "darkest", " ",
                    absl::StrFormat("%.4f", range.high), "\n");
  }
  return out;
}

}  // namespace moescope::client
