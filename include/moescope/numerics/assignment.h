#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {
namespace internal {
struct CoreMemory;
struct CosineMemory;
}  // namespace internal

/// Similarities in fixed point are multiples of 1 / kSimilarityScale.
inline constexpr double kSimilarityScale = 268435456.0;  // 2^28
/// Largest magnitude that fits: a cosine has 1, a sum of three has 3.
inline constexpr float kMaxSimilarity = 3.5F;

/// A square matrix of similarities in fixed point, filled tile by tile, with
/// what FillCosines and SolveAssignment need beside it. Used again for the next
/// one: memory touched for the first time is slow.
/// Memory: 4 bytes per entry of the largest size so far, what FillCosines states
/// and 400 bytes per row once solved.
/// Threads: one at a time; tiles that do not overlap may be set together.
class SimilarityMatrix {
 public:
  SimilarityMatrix() = default;
  SimilarityMatrix(SimilarityMatrix&&) = default;
  SimilarityMatrix& operator=(SimilarityMatrix&&) = default;

  /// Makes room for [size, size]; every entry is to be set afterwards.
  void Resize(std::int64_t size);
  std::int64_t size() const { return size_; }

  /// Sets rows row … row + tile.rows, columns col … col + tile.cols to the
  /// nearest multiple of 1 / kSimilarityScale (halves to even).
  /// Errors: INVALID_ARGUMENT (tile is not fp32 or does not fit; an entry is
  /// NaN, infinite or beyond kMaxSimilarity).
  absl::Status Set(std::int64_t row, std::int64_t col, const MatrixView& tile);

  /// Becomes the image of [F, F] fp32 similarities; rows are shared out through
  /// `pool`.
  /// Errors: INVALID_ARGUMENT (not square, and those of Set); CANCELLED,
  /// DEADLINE_EXCEEDED.
  absl::Status Fill(const MatrixView& similarities, ThreadPool& pool,
                    const RunContext& context);

  /// The entry times −kSimilarityScale: what an assignment pays for it.
  std::int32_t cost(std::int64_t row, std::int64_t col) const {
    return costs_[static_cast<std::size_t>(row * size_ + col)];
  }
  const std::int32_t* costs() const { return costs_.get(); }  // [size, size]

  /// Made and kept from one matrix to the next by those who fill and solve it.
  std::shared_ptr<internal::CosineMemory>& cosine_memory() {
    return cosine_memory_;
  }
  std::shared_ptr<internal::CoreMemory>& core_memory() { return core_memory_; }

 private:
  std::int64_t size_ = 0;
  std::int64_t capacity_ = 0;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  // Not a vector: its zeros would touch all memory in one go.
  std::unique_ptr<std::int32_t[], Free> costs_;
  // Not unique: that would ask for complete types here.
  std::shared_ptr<internal::CosineMemory> cosine_memory_;
  std::shared_ptr<internal::CoreMemory> core_memory_;
};

/// The best one-to-one matching of rows with columns, and its proof.
struct Assignment {
  std::vector<std::int64_t> permutation;  // [F] column of each row
  /// Sum of the matched similarities.
  double objective = 0;
  /// The same in units of 1 / kSimilarityScale, exact.
  std::int64_t objective_quantised = 0;
  /// Σ row_duals + Σ column_duals: no matching has more, as the duals of a row
  /// and a column are together at least their similarity.
  std::int64_t dual_quantised = 0;
  /// dual_quantised − objective_quantised: 0, the matching is optimal.
  std::int64_t gap = 0;
  std::vector<std::int64_t> row_duals;     // [F]
  std::vector<std::int64_t> column_duals;  // [F]
};

/// Exact linear assignment: the permutation p that maximises Σ_i s(i, p_i).
///
/// Definition: over the similarities in fixed point, in integers throughout, so
/// that optimality is proven and not a matter of rounding. Several permutations
/// may be optimal; which one is returned depends on the matrix and the
/// instruction set alone.
/// Source: Jonker & Volgenant, Computing 38 (1987) 325, shortest augmenting
/// paths on a sparse core (the 16 best of each row and column) with all F²
/// entries priced until none improves; duals of hard matrices start from
/// entropic transport (Cuturi, NeurIPS 2013).
/// Shapes: similarities [F, F]; F = 0 gives an empty assignment.
/// Precision: rounding to fixed point moves each entry by at most 2^-29, so the
/// objective is within F·2^-28 of that of the unrounded matrix. `objective` is
/// summed in fp64 from the fixed-point entries, or, where fp32 similarities are
/// given, from those.
/// Cost: a few passes over F² entries and short searches; F³ for the worst
/// matrices. Memory: beside the matrix about 1100 F bytes, and up to 10,000 F
/// where many neurons are alike and rounds of pricing add up; 400 F of which stay
/// with it; fp32 similarities are first put into `memory`.
/// Errors: INVALID_ARGUMENT (not square, not fp32, an entry that is NaN,
/// infinite or beyond kMaxSimilarity); CANCELLED, DEADLINE_EXCEEDED, looked at
/// every few milliseconds.
/// Threads: passes over the matrix are shared out through `pool`, searches run
/// on the calling thread; the same for any number of threads.
absl::StatusOr<Assignment> SolveAssignment(SimilarityMatrix& similarities,
                                           ThreadPool& pool,
                                           const RunContext& context);
absl::StatusOr<Assignment> SolveAssignment(const MatrixView& similarities,
                                           ThreadPool& pool,
                                           const RunContext& context,
                                           SimilarityMatrix& memory);

}  // namespace moescope::numerics
