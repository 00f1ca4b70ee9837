#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {

/// What one reading of the matrices is to yield.
struct GramOptions {
  bool gram = true;
  /// Gram matrix of the coordinates standardised over the participants.
  bool standardised_gram = false;
  /// L2 norm of each row, of each column.
  bool row_norms = false;
  bool column_norms = false;
  /// Mean over the rows (a vector as long as a row), over the columns.
  bool mean_row = false;
  bool mean_column = false;
};

/// Letters: N participants, each a matrix [R, C]. What was not asked for is
/// empty.
struct GramResult {
  std::int64_t participants = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<double> gram;               // [N, N]
  std::vector<double> standardised_gram;  // [N, N]
  std::vector<double> row_norms;          // [N, R]
  std::vector<double> column_norms;       // [N, C]
  std::vector<double> mean_row;           // [N, C]
  std::vector<double> mean_column;        // [N, R]
  /// Elements that are NaN or infinite.
  std::vector<std::int64_t> nonfinite;  // [N]
};

/// Everything that pairs of equally shaped matrices, taken as long vectors,
/// have in common, in one pass over memory.
///
/// Definition: gram[i,j] = Σ_t x_it x_jt over all elements t of participants i
/// and j; standardised_gram the same of z_it = (x_it − mean_i x_it) / sd_i x_it
/// with the sample deviation (ddof 1), 0 where all participants agree (also
/// N = 1). row_norms[n,r] = √Σ_c x²; mean_row[n,c] = (1/R) Σ_r x; columns
/// likewise; a mean over nothing is 0. Neurons are rows of gate_proj and
/// up_proj (neuron average: mean_row) and columns of down_proj (mean_column).
/// A Gram matrix does not depend on the order of coordinates, so down_proj need
/// not be transposed for it.
///
/// Shapes and dtypes: N ≥ 1 views of one shape, any mixture of element types
/// and layouts. Dense ones are read in place, also where rows and columns are
/// exchanged in most of them; the others block by block through BlockReader.
///
/// Precision: elements widened to fp32; products summed in fp32 within blocks
/// of at most 4096 elements, norms and means within 32 rows of a column and 1024
/// elements of a row, in fp64 across. Under "avx512_bf16", when all
/// participants are bf16, the products are the processor's: subnormal numbers
/// count as 0 and each sum is rounded to nearest. Where a
/// participant's squares leave the range of fp32 (root mean square below 2^-50, or
/// a sum that overflows) all are read again twice, in fp32 and scaled by powers of
/// two of their own, block by block.
///
/// Non-finite elements are counted, and every value that they enter is
/// non-finite: entries of `gram` in that participant's row and column, norms
/// and means of that row or column, and all of `standardised_gram`.
///
/// Cost: each element is read once; N²/2 multiplications per coordinate.
/// Errors: INVALID_ARGUMENT (no participants; views that contradict each other
/// or themselves); CANCELLED, DEADLINE_EXCEEDED.
/// Threads: uses `pool`; the result is the same bit for bit for any number of
/// threads (and the same instruction set).
absl::StatusOr<GramResult> ComputeGram(
    absl::Span<const MatrixView> participants, const GramOptions& options,
    ThreadPool& pool, const RunContext& context);

}  // namespace moescope::numerics
