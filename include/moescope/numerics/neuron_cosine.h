#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/numerics/assignment.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {

/// Two matrices with neurons as rows, [F, D] each and of any storage: gate_proj
/// and up_proj as they lie, down_proj Transposed.
struct NeuronPair {
  MatrixView left;
  MatrixView right;
};

/// The sum over `pairs` of the cosines of every left with every right neuron,
/// straight into fixed point.
/// Definition: out(i, j) = Σ_p ⟨l_i, r_j⟩ / (‖l_i‖ ‖r_j‖); a zero neuron has
/// cosine 0 with all.
/// Shapes: pairs of one F (D may differ), at most 3; out becomes [F, F].
/// Precision: rows normalised in fp32 by norms summed in fp64, products in
/// fp32 through the BLAS library on fixed tiles; about 1e-7.
/// Cost: 2 F² D flops a pair. Memory: `out`, and up to 2304 rows of each pair
/// in fp32.
/// Errors: INVALID_ARGUMENT (shapes; a neuron that is not finite);
/// INTERNAL (library failure); CANCELLED, DEADLINE_EXCEEDED.
/// Threads: the calling thread alone, while the BLAS library runs
/// single-threaded; the bits then depend on nothing but the pairs.
absl::Status FillCosines(absl::Span<const NeuronPair> pairs,
                         const RunContext& context, SimilarityMatrix& out);

/// Neurons matched one to one, in numbers.
struct MatchedNeurons {
  /// Cosine of left neuron i with right neuron permutation[i].
  std::vector<double> cosines;  // [F]
  /// Cosine of the whole matrices, as they are and after the right one's
  /// neurons are put into the order of `permutation`; 0 if one is zero.
  double flattened_before = 0;
  double flattened_after = 0;
};

/// Precision: elements widened to fp32, all products and sums in fp64.
/// Cost: 8 F D flops. Memory: both matrices of the pair in fp32, 64 rows of the
/// left one at a time.
/// Errors: INVALID_ARGUMENT (shapes, or no permutation of them); CANCELLED,
/// DEADLINE_EXCEEDED.
/// Threads: the calling thread alone.
absl::StatusOr<MatchedNeurons> CompareMatched(
    const NeuronPair& pair, absl::Span<const std::int64_t> permutation,
    const RunContext& context);

/// Kendall's tau of a permutation of 0 … F−1 with the identity:
/// 1 − 4 · inversions / (F (F − 1)); NaN for F < 2. Cost: F log F.
double KendallTauToIdentity(absl::Span<const std::int64_t> permutation);

/// Standard deviation of that tau over random permutations,
/// √(2 (2F + 5) / (9 F (F − 1))); NaN for F < 2.
double KendallTauNullError(std::int64_t size);

}  // namespace moescope::numerics
