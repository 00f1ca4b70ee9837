// ComputeGram of weights whose squares leave the range of fp32.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/numerics/gram_kernels_internal.h"
#include "server/numerics/range_scale_internal.h"
#include "server/numerics/row_groups_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/gram.h"

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

// The largest finite magnitude, 0 where there is none.
absl::StatusOr<float> FindLargest(const MatrixView& matrix, ThreadPool& pool,
                                  const RunContext& context) {
  // Along memory.
  const MatrixView view =
      matrix.row_stride < matrix.col_stride ? Transposed(matrix) : matrix;
  constexpr std::int64_t kElements = std::int64_t{1} << 18;
  const std::int64_t rows =
      std::max<std::int64_t>(1, kElements / std::max<std::int64_t>(1, view.cols));
  std::vector<float> largest(
      static_cast<std::size_t>(internal::NumRowGroups(view, rows)), 0.0F);
  MOESCOPE_RETURN_IF_ERROR(internal::ForRowGroups(
      view, rows, pool, context,
      [&largest](std::int64_t group, absl::Span<const float> values) {
        largest[static_cast<std::size_t>(group)] =
            internal::LargestFinite(values);
      }));
  return internal::LargestFinite(largest);
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
  std::vector<std::optional<float>> largest(participants.size());
  bool fits = true;
  for (std::size_t i = 0; i < participants.size(); ++i) {
    const MatrixView& view = participants[i];
    if (result.nonfinite[i] == 0 &&
        !internal::InRange(Energy(result, static_cast<std::int64_t>(i)),
                           view.size())) {
      MOESCOPE_ASSIGN_OR_RETURN(largest[i], FindLargest(view, pool, context));
      fits = fits && *largest[i] == 0;
    }
  }
  if (fits) {
    return result;
  }
  std::vector<int> exponents;
  for (std::size_t i = 0; i < participants.size(); ++i) {
    if (!largest[i].has_value()) {
      MOESCOPE_ASSIGN_OR_RETURN(largest[i],
                                FindLargest(participants[i], pool, context));
    }
    exponents.push_back(internal::RangeExponent({&*largest[i], 1}));
  }
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
