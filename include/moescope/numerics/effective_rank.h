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
/// Precision: Gram tiles of 256 x 256 in fp64 from products of fp32 panels 512
/// long; eigenvalues in fp64, those below 0 by rounding count as 0.
/// Cost: R C min(R, C) multiplications and the eigenvalues of min(R, C)²; 8
/// min(R, C)² bytes.
/// Errors: INVALID_ARGUMENT (no matrix); CANCELLED, DEADLINE_EXCEEDED, looked
/// at between tiles and before the eigenvalues; INTERNAL (library failure).
/// Threads: tiles are shared out through `pool`; the same bits for any number
/// of them while the BLAS library runs single-threaded.
absl::StatusOr<Spectrum> ComputeSpectrum(const MatrixView& matrix,
                                         ThreadPool& pool,
                                         const RunContext& context);

/// The two figures from eigenvalues s² ≥ 0 already known.
Spectrum SpectrumFromEnergies(const double* energies, std::int64_t count);

}  // namespace moescope::numerics
