#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {

struct Spectrum {
  /// √Σ s_i²; NaN when an element is not finite.
  double frobenius = 0;
  /// exp(−Σ p_i ln p_i) with p_i = s_i² / Σ s²; between 1 and min(R, C). 0 for
  /// a zero matrix, NaN when an element is not finite.
  double effective_rank = 0;
};

/// How many directions a matrix really uses.
/// Definition: s are the singular values; s² are the eigenvalues of the Gram
/// matrix of the shorter side.
/// Source: Roy & Vetterli, "The effective rank", with energies s² in place of
/// s, as the reference implementation of this project.
/// Shapes: matrix [R, C], any view.
/// Precision: Gram matrix in fp64 from products over 512 numbers in fp32, of bf16
/// as they are where NeuronProductType() is "bf16";
/// eigenvalues in fp64 with an error of a small multiple of min(R, C) ε times the
/// largest, as LAPACK's; those below 0 by rounding count as 0. Where squares
/// would leave the range of fp32, of elements times a power of two.
/// Cost: R C min(R, C) operations in products of fp32, then 4/3 min(R, C)³ in
/// products of fp64 and 300 min(R, C)² more (band reduction: see the source of
/// SymmetricEigenvalues). 4 min(R, C)² bytes for the Gram matrix's half, and 8192
/// min(R, C) for what is widened at once.
/// Errors: INVALID_ARGUMENT (no matrix); CANCELLED, DEADLINE_EXCEEDED, looked
/// at many times in 100 ms at any size; INTERNAL (library failure, or QL
/// iterations that do not converge).
/// Threads: tiles and sweeps are shared out through `pool`; the same bits for any
/// number of them while the BLAS library runs single-threaded.
absl::StatusOr<Spectrum> ComputeSpectrum(const MatrixView& matrix,
                                         ThreadPool& pool,
                                         const RunContext& context);

/// The two figures from eigenvalues s² ≥ 0 already known.
Spectrum SpectrumFromEnergies(const double* energies, std::int64_t count);

}  // namespace moescope::numerics
