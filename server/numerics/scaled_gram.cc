// ComputeGram of weights whose squares leave the range of fp32.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/numerics/gram_kernels_internal.h"
#include "server/numerics/range_scale_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/gram.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::numerics {
namespace {

// Σ x² of a participant as far as it was asked for, else 1.
double Energy(const GramResult& result, std::int64_t n) {
  const auto squares = [n](const std::vector<double>& norms,
                           std::int64_t length) {
    double sum = 0;
    for (std::int64_t i = n * length; i < (n + 1) * length; ++i) {
      const double norm = norms[static_cast<std::size_t>(i)];
      sum += norm * norm;
    }
    return sum;
  };
  if (!result.gram.empty()) {
    return result.gram[static_cast<std::size_t>(n * result.participants + n)];
  }
  if (!result.row_norms.empty()) {
    return squares(result.row_norms, result.rows);
  }
  return result.column_norms.empty() ? 1
                                     : squares(result.column_norms, result.cols);
}

bool AllZero(const MatrixView& view) {
  std::vector<float> row(static_cast<std::size_t>(view.cols));
  for (std::int64_t r = 0; r < view.rows; ++r) {
    WidenRows(view, r, 1, row.data());
    if (std::any_of(row.begin(), row.end(), [](float x) { return x != 0; })) {
      return false;
    }
  }
  return true;
}

// The exponent of the largest finite magnitude; 0 where there is none.
int ExponentOf(const MatrixView& matrix) {
  // Along memory.
  const MatrixView view =
      matrix.row_stride < matrix.col_stride ? Transposed(matrix) : matrix;
  std::vector<float> row(static_cast<std::size_t>(view.cols));
  float largest = 0;
  for (std::int64_t r = 0; r < view.rows; ++r) {
    WidenRows(view, r, 1, row.data());
    for (const float x : row) {
      largest = std::isfinite(x) ? std::max(largest, std::fabs(x)) : largest;
    }
  }
  return internal::RangeExponent({&largest, 1});
}

void Unscale(const std::vector<int>& exponents, std::vector<double>& values) {
  const std::size_t each = values.size() / exponents.size();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::ldexp(values[i], exponents[i / each]);
  }
}

}  // namespace

absl::StatusOr<GramResult> ComputeGram(
    absl::Span<const MatrixView> participants, const GramOptions& options,
    ThreadPool& pool, const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(
      GramResult result,
      internal::ComputePlainGram(participants, {}, options, pool, context));
  bool fits = true;
  for (std::int64_t n = 0; n < result.participants; ++n) {
    const MatrixView& view = participants[static_cast<std::size_t>(n)];
    fits = fits && (result.nonfinite[static_cast<std::size_t>(n)] > 0 ||
                    internal::InRange(Energy(result, n), view.size()) ||
                    AllZero(view));
  }
  if (fits) {
    return result;
  }
  std::vector<int> exponents(participants.size());
  MOESCOPE_RETURN_IF_ERROR(pool.ParallelFor(
      static_cast<std::int64_t>(participants.size()), [&](std::int64_t n) {
        absl::Status wanted = context.Check();
        if (wanted.ok()) {
          const auto i = static_cast<std::size_t>(n);
          exponents[i] = ExponentOf(participants[i]);
        }
        return wanted;
      }));
  // Standardised coordinates have no scale: they are right as they are.
  GramOptions again = options;
  again.standardised_gram = false;
  MOESCOPE_ASSIGN_OR_RETURN(
      GramResult scaled,
      internal::ComputePlainGram(participants, exponents, again, pool, context));
  const std::size_t n = exponents.size();
  for (std::size_t i = 0; i < scaled.gram.size(); ++i) {
    scaled.gram[i] =
        std::ldexp(scaled.gram[i], exponents[i / n] + exponents[i % n]);
  }
  Unscale(exponents, scaled.row_norms);
  Unscale(exponents, scaled.column_norms);
  Unscale(exponents, scaled.mean_row);
  Unscale(exponents, scaled.mean_column);
  scaled.standardised_gram = std::move(result.standardised_gram);
  return scaled;
}

}  // namespace moescope::numerics
