#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {

/// Shares of variance that are reported beyond the components asked for.
inline constexpr std::int64_t kSpectrumLength = 16;

/// Letters: n points, K components, m shares.
struct PrincipalComponents {
  std::vector<double> scores;           // [n, K]
  std::vector<double> explained_ratio;  // [K]
  /// Shares of the variance, largest first; m = min(n, d, max(K + 1,
  /// kSpectrumLength)) with d the length of a point. Equal neighbours mean
  /// arbitrary axes.
  std::vector<double> spectrum;  // [m]
  /// 1 − second largest |score| / largest; near 0 the sign is arbitrary.
  std::vector<double> sign_gap;  // [K]
};

/// Principal components of n points from the Gram matrix of their centred
/// coordinates (a standardised Gram is one).
/// Definition: G = U Λ Uᵀ; scores U √Λ, shares λ / Σ λ; of each component the
/// score of largest magnitude (the first of equals) is positive. Components
/// beyond n have scores and share 0, as all have where all points agree.
/// Shapes: gram [n, n]. Precision: fp64; λ < 0 by rounding counts as 0.
/// Non-finite entries make everything NaN.
/// Errors: INVALID_ARGUMENT (sizes; components < 1); INTERNAL (library).
absl::StatusOr<PrincipalComponents> ComponentsFromGram(
    absl::Span<const double> gram, std::int64_t points,
    std::int64_t components);

/// Which side of a matrix the neurons are.
enum class NeuronAxis { kRows, kColumns };

struct NeuronComponents {
  PrincipalComponents components;
  std::vector<std::int64_t> nonfinite;  // per matrix
  /// Largest ‖C v − λ v‖ / λ_1 of the components, C the correlation matrix.
  double residual = 0;
};

/// Principal components of all neurons of all matrices as points of length D,
/// matrix after matrix, each coordinate standardised over the neurons (ddof 1;
/// a constant coordinate is 0).
/// Definition: C = Zᵀ Z / (n − 1); scores Z V with C V = V Λ; shares λ / Σ λ
/// with Σ λ = trace C. Signs as above.
/// Shapes: matrices [F_i, D] (kRows) or [D, F_i] (kColumns), n = Σ F_i.
/// Precision: products of fp32 over 2048 neurons, sums of these in fp64; where
/// NeuronProductType() is "bf16", products of bf16 weights as they are, summed
/// in fp32 over 512 neurons;
/// standardised after the products, or (where a mean exceeds 8 deviations)
/// before them in a second reading. A coordinate of magnitudes above 2^40 or
/// below 2^-40 is read again times a power of two, which changes no digit of the
/// result but where bf16 products give way to fp32. Eigenvectors in fp64, with a
/// residual of at most 1e-8 λ_1: full decomposition up to D = 480, beyond it block
/// Krylov subspaces with restarts, and the full one if these don't converge (one
/// call of the library, which does not look at `context`). A non-finite weight
/// makes everything NaN and is counted.
/// Cost: n D² multiplications. Memory: 8 D² bytes, 6 · 2048 D for the panel,
/// 7680 D for the subspaces, 8 n components for the scores.
/// Errors: INVALID_ARGUMENT (no matrix, lengths differ, fewer than 2 neurons,
/// components outside [1, D]); CANCELLED, DEADLINE_EXCEEDED, looked at between
/// tiles; INTERNAL (library failure).
/// Threads: tiles are shared out through `pool`; the same bits for any number
/// of them while the BLAS library runs single-threaded.
absl::StatusOr<NeuronComponents> ComputeNeuronComponents(
    absl::Span<const MatrixView> matrices, NeuronAxis axis,
    std::int64_t components, ThreadPool& pool, const RunContext& context);

}  // namespace moescope::numerics
