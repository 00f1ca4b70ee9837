#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "server/numerics/band_matrix_internal.h"
#include "server/numerics/symmetric_tiles_internal.h"

namespace moescope::numerics::internal {

/// All eigenvalues of a symmetric matrix, smallest first.
/// Definition: the matrix is reduced to a band, the band to a tridiagonal
/// matrix, both by orthogonal similarity; then QL iterations without vectors.
/// Source: Bischof, Lang and Sun, "A framework for symmetric band reduction"
/// (ACM TOMS 26, 2000); LAPACK's dsytrd_sy2sb, dsytrd_sb2st and dsterf. One step
/// to a tridiagonal matrix, as dsytrd takes it, would read the whole matrix for
/// every column.
/// Shapes: matrix [n, n], finite; its contents are lost.
/// Precision: as LAPACK's, an absolute error of a small multiple of n ε ‖A‖.
/// Cost: 4/3 n³ operations in products of matrices, 6 n² kBand in the band, 30 n²
/// at the end; 4 n² bytes, which are the matrix's, and as much as a band.
/// Errors: CANCELLED, DEADLINE_EXCEEDED, looked at many times in 100 ms; INTERNAL
/// where QL iterations do not converge. Throws what torch throws.
/// Threads: the first two steps share out tiles and sweeps through `pool`; the
/// same bits for any number of threads while the BLAS library runs
/// single-threaded.
absl::StatusOr<std::vector<double>> SymmetricEigenvalues(
    SymmetricTiles matrix, ThreadPool& pool, const RunContext& context);

/// Its first step: a band matrix with the eigenvalues of `matrix`.
absl::StatusOr<BandMatrix> ReduceToBand(SymmetricTiles& matrix,
                                        ThreadPool& pool,
                                        const RunContext& context);

/// Its second step, in place: diagonal and first subdiagonal are what counts.
/// Entries are of the order of 1 at most.
absl::Status ReduceToTridiagonal(BandMatrix& band, ThreadPool& pool,
                                 const RunContext& context);

/// Its third: the eigenvalues of the symmetric tridiagonal matrix of diagonal
/// d [n] and subdiagonal e [n − 1], of the order of 1 at most.
absl::StatusOr<std::vector<double>> TridiagonalEigenvalues(
    std::vector<double> d, std::vector<double> e, const RunContext& context);

}  // namespace moescope::numerics::internal
