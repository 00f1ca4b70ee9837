#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/assignment.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {

/// Two matrices with neurons as rows, [F, D] each and of any storage: gate_proj
/// and up_proj as they lie, down_proj Transposed.
struct NeuronPair {
  MatrixView left;
  MatrixView right;
};

/// "bf16" where products of bf16 neurons are the processor's own, "fp32" where
/// they are widened: as chosen by ChooseBFloat16Products, part of the numerics
/// class.
/// Threads: safe.
std::string NeuronProductType();

/// The sum over `pairs` of the cosines of every left with every right neuron,
/// straight into fixed point.
/// Definition: out(i, j) = Σ_p ⟨l_i, r_j⟩ / (‖l_i‖ ‖r_j‖); a zero neuron has
/// cosine 0 with all.
/// Shapes: pairs of one F (D may differ), at most 3; out becomes [F, F].
/// Precision: 6e-8 root mean square and 1.2e-6 at worst were seen at D = 4096
/// against fp64, norms are summed in fp64. On fixed blocks either rows
/// normalised in fp32 and multiplied by the BLAS library, or, where the
/// processor has bf16 products at twice the rate of fp32 and all numbers are
/// bf16 with norms of 1e-9 to 1e15, these products of the numbers as they are:
/// exact, summed in fp32 over 512 of them, in fp64 beyond; subnormal numbers
/// count as 0 there.
/// Cost: 2 F² D flops a pair. Memory: `out`, and beside it, kept with it, up to
/// 2560 rows of each pair in fp32 or bf16 and 0.7 MB per thread.
/// Errors: INVALID_ARGUMENT (shapes; a neuron that is not finite);
/// INTERNAL (library failure); CANCELLED, DEADLINE_EXCEEDED.
/// Threads: parts of blocks are shared out through `pool`, while the BLAS library
/// runs single-threaded; the bits then depend on nothing but the pairs.
absl::Status FillCosines(absl::Span<const NeuronPair> pairs, ThreadPool& pool,
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
/// Cost: 8 F D flops, one reading of both matrices (a second of the right one
/// where neurons are rows). Memory: for each thread 16 rows of both in fp32;
/// where neurons are columns, 256 F bytes.
/// Errors: INVALID_ARGUMENT (shapes, or no permutation of them); CANCELLED,
/// DEADLINE_EXCEEDED.
/// Threads: rows are shared out through `pool`; the same bits for any number.
absl::StatusOr<MatchedNeurons> CompareMatched(
    const NeuronPair& pair, absl::Span<const std::int64_t> permutation,
    ThreadPool& pool, const RunContext& context);

/// Kendall's tau of a permutation of 0 … F−1 with the identity:
/// 1 − 4 · inversions / (F (F − 1)); NaN for F < 2. Cost: F log F.
double KendallTauToIdentity(absl::Span<const std::int64_t> permutation);

/// Standard deviation of that tau over random permutations,
/// √(2 (2F + 5) / (9 F (F − 1))); NaN for F < 2.
double KendallTauNullError(std::int64_t size);

}  // namespace moescope::numerics
