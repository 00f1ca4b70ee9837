#include "moescope/numerics/assignment.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/numerics/assignment_costs_internal.h"
#include "server/numerics/assignment_kernels_internal.h"
#include "server/numerics/assignment_solver_internal.h"

namespace moescope::numerics {
namespace internal {
namespace {

std::int64_t Sum(const std::vector<std::int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), std::int64_t{0});
}

// Costs are negative similarities, and so are their duals.
std::vector<std::int64_t> Negative(std::vector<std::int64_t> values) {
  for (std::int64_t& value : values) {
    value = -value;
  }
  return values;
}

}  // namespace

Assignment ToAssignment(Solution solution, CostSource& costs) {
  Assignment assignment;
  assignment.permutation.assign(solution.column_of_row.begin(),
                                solution.column_of_row.end());
  std::vector<std::int64_t> rows(assignment.permutation.size());
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  for (const std::int32_t cost : costs.Entries(rows, assignment.permutation)) {
    assignment.objective_quantised -= cost;
  }
  assignment.row_duals = Negative(std::move(solution.duals.row));
  assignment.column_duals = Negative(std::move(solution.duals.column));
  assignment.dual_quantised =
      Sum(assignment.row_duals) + Sum(assignment.column_duals);
  assignment.gap = assignment.dual_quantised - assignment.objective_quantised;
  assignment.objective =
      static_cast<double>(assignment.objective_quantised) / kSimilarityScale;
  return assignment;
}

}  // namespace internal

namespace {

// Rows put into fixed point at once: fresh memory may come at half a gigabyte
// per second, and a cancellation is to be seen soon.
constexpr std::int64_t kFillRows = 16;

// In large pages, if the system has some: fewer faults when they are first
// touched, and columns are read without a miss of the address cache per row.
std::int32_t* AllocateCosts(std::int64_t count) {
  constexpr std::size_t kPage = std::size_t{2} << 20;
  const std::size_t bytes = static_cast<std::size_t>(count) * 4;
  const std::size_t rounded =
      bytes < kPage ? bytes : (bytes + kPage - 1) / kPage * kPage;
  void* const memory = bytes < kPage ? std::malloc(rounded)
                                     : std::aligned_alloc(kPage, rounded);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
#ifdef __linux__
  if (bytes >= kPage) {
    // Advice: small pages do as well.
    (void)madvise(memory, rounded, MADV_HUGEPAGE);
  }
#endif
  return static_cast<std::int32_t*>(memory);
}

absl::Status CheckTile(const MatrixView& tile) {
  if (tile.type != ElementType::kFloat32 || tile.rows < 0 || tile.cols < 0 ||
      tile.row_stride < tile.cols ||
      (tile.data == nullptr && tile.size() > 0)) {
    return InvalidField("similarities",
                        absl::StrCat("is no fp32 matrix: [", tile.rows, ", ",
                                     tile.cols, "] with rows ",
                                     tile.row_stride, " elements apart"));
  }
  return absl::OkStatus();
}

}  // namespace

void SimilarityMatrix::Resize(std::int64_t size) {
  if (size > capacity_) {
    costs_.reset();
    capacity_ = size_ = 0;  // Also where the next line throws.
    costs_.reset(AllocateCosts(size * size));
    capacity_ = size;
  }
  size_ = size;
}

absl::Status SimilarityMatrix::Set(std::int64_t row, std::int64_t col,
                                   const MatrixView& tile) {
  MOESCOPE_RETURN_IF_ERROR(CheckTile(tile));
  if (row < 0 || col < 0 || row + tile.rows > size_ ||
      col + tile.cols > size_) {
    return InvalidField(
        "similarities",
        absl::StrCat("tile [", tile.rows, ", ", tile.cols, "] at ", row, ", ",
                     col, " is outside [", size_, ", ", size_, "]"));
  }
  const auto* const values = static_cast<const float*>(tile.data);
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    if (!internal::QuantiseRun(values + r * tile.row_stride, tile.cols,
                               kMaxSimilarity,
                               costs_.get() + (row + r) * size_ + col)) {
      return InvalidField(
          "similarities",
          absl::StrCat("row ", row + r,
                       " has an entry that is no number of magnitude up to ",
                       kMaxSimilarity));
    }
  }
  return absl::OkStatus();
}

absl::Status SimilarityMatrix::Fill(const MatrixView& similarities,
                                    ThreadPool& pool,
                                    const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(CheckTile(similarities));
  if (similarities.rows != similarities.cols) {
    return InvalidField("similarities",
                        absl::StrCat("is not square: [", similarities.rows,
                                     ", ", similarities.cols, "]"));
  }
  Resize(similarities.rows);
  const auto* const values = static_cast<const float*>(similarities.data);
  const std::int64_t blocks = (size_ + kFillRows - 1) / kFillRows;
  return pool.ParallelFor(blocks, [&](std::int64_t block) -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const std::int64_t row = block * kFillRows;
    MatrixView rows = similarities;
    rows.data = values + row * similarities.row_stride;
    rows.rows = std::min(kFillRows, size_ - row);
    return Set(row, 0, rows);
  });
}

absl::StatusOr<Assignment> SolveAssignment(SimilarityMatrix& similarities,
                                           ThreadPool& pool,
                                           const RunContext& context) {
  if (similarities.core_memory() == nullptr) {
    similarities.core_memory() = std::make_shared<internal::CoreMemory>();
  }
  internal::MemoryCosts costs(similarities, pool, *similarities.core_memory());
  MOESCOPE_ASSIGN_OR_RETURN(
      internal::Solution solution,
      internal::SolveCosts(costs, internal::SolverOptions(), context));
  return internal::ToAssignment(std::move(solution), costs);
}

absl::StatusOr<Assignment> SolveAssignment(const MatrixView& similarities,
                                           ThreadPool& pool,
                                           const RunContext& context,
                                           SimilarityMatrix& memory) {
  MOESCOPE_RETURN_IF_ERROR(memory.Fill(similarities, pool, context));
  MOESCOPE_ASSIGN_OR_RETURN(Assignment assignment,
                            SolveAssignment(memory, pool, context));
  const auto* const values = static_cast<const float*>(similarities.data);
  assignment.objective = 0;
  for (std::int64_t r = 0; r < similarities.rows; ++r) {
    assignment.objective += static_cast<double>(
        values[r * similarities.row_stride +
               assignment.permutation[static_cast<std::size_t>(r)]]);
  }
  return assignment;
}

}  // namespace moescope::numerics
