#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {

/// Cosines from a Gram matrix.
/// Definition: c_ij = g_ij / √(g_ii g_jj), clipped to [-1, 1]; 0 where either
/// vector is zero; on the diagonal exactly 1, or 0 for a zero vector. NaN in
/// the row and column of a vector whose g_ii is not finite.
/// Shapes: gram [N, N], result [N, N].
/// Errors: INVALID_ARGUMENT when `gram` has not size² entries.
absl::StatusOr<std::vector<double>> CosinesFromGram(
    absl::Span<const double> gram, std::int64_t size);

/// Cosines of all pairs of rows, for small matrices: router rows, mean
/// neurons. Definition as above.
/// Shapes: rows [N, C], result [N, N].
/// Precision: every product and sum in fp64, in an order that the instruction
/// set fixes.
/// Cost: N² C / 2 multiplications on the calling thread.
/// Errors: INVALID_ARGUMENT (sizes contradict each other).
absl::StatusOr<std::vector<double>> RowCosines(const MatrixView& rows);
absl::StatusOr<std::vector<double>> RowCosines(absl::Span<const double> rows,
                                               std::int64_t num_rows,
                                               std::int64_t num_cols);

}  // namespace moescope::numerics
