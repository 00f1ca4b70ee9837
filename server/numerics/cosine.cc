#include "moescope/numerics/cosine.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/dot_kernels_internal.h"

namespace moescope::numerics {
namespace {

double CosineFromProducts(double ab, double aa, double bb) {
  if (!std::isfinite(aa) || !std::isfinite(bb)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (aa <= 0 || bb <= 0) {
    return 0;
  }
  // Roots one by one: the product of two squared norms may leave the range.
  return std::clamp(ab / std::sqrt(aa) / std::sqrt(bb), -1.0, 1.0);
}

}  // namespace

absl::StatusOr<std::vector<double>> CosinesFromGram(
    absl::Span<const double> gram, std::int64_t size) {
  if (size < 0 || static_cast<std::int64_t>(gram.size()) != size * size) {
    return InvalidField("gram", absl::StrCat("has ", gram.size(),
                                             " entries, not ", size, "²"));
  }
  std::vector<double> cosines(gram.size());
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = 0; j < size; ++j) {
      const auto at = static_cast<std::size_t>(i * size + j);
      const double ii = gram[static_cast<std::size_t>(i * size + i)];
      const double jj = gram[static_cast<std::size_t>(j * size + j)];
      cosines[at] = CosineFromProducts(gram[at], ii, jj);
      if (i == j && cosines[at] > 0) {
        cosines[at] = 1;
      }
    }
  }
  return cosines;
}

absl::StatusOr<std::vector<double>> RowCosines(absl::Span<const double> rows,
                                               std::int64_t num_rows,
                                               std::int64_t num_cols) {
  if (num_rows < 0 || num_cols < 0 ||
      static_cast<std::int64_t>(rows.size()) != num_rows * num_cols) {
    return InvalidField("rows",
                        absl::StrCat("has ", rows.size(), " entries, not ",
                                     num_rows, " x ", num_cols));
  }
  std::vector<double> gram(static_cast<std::size_t>(num_rows * num_rows));
  internal::DotRows(rows.data(), num_rows, num_cols, gram.data());
  return CosinesFromGram(gram, num_rows);
}

absl::StatusOr<std::vector<double>> RowCosines(const MatrixView& rows) {
  MOESCOPE_RETURN_IF_ERROR(CheckView("rows", rows));
  std::vector<float> wide(static_cast<std::size_t>(rows.size()));
  WidenRows(rows, 0, rows.rows, wide.data());
  return RowCosines(std::vector<double>(wide.begin(), wide.end()), rows.rows,
                    rows.cols);
}

}  // namespace moescope::numerics
