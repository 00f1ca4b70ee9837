#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::numerics {

/// Whether `view` can be read: INVALID_ARGUMENT about `field` for negative
/// sizes, rows or columns that run into each other, missing data, and scales
/// that are missing, superfluous or of impossible blocks.
absl::Status CheckView(absl::string_view field, const MatrixView& view);

/// A part of a matrix.
struct MatrixBlock {
  std::int64_t row = 0;
  std::int64_t rows = 0;
  std::int64_t col = 0;
  std::int64_t cols = 0;
};

/// Elements in fp32, row after row.
/// Definition: plain elements by their value; quantised ones code value times
/// scale, rounded once to fp32. NaN codes and NaN scales give NaN; a product
/// beyond the range gives infinity, below it a subnormal number.
/// Shapes: `out` [rows, view.cols] of rows row_begin … of `view`, which
/// CheckView accepts and which has them.
/// Precision: exact, but for the one rounding.
/// Cost: every element read once; where the columns are what lies together in
/// memory, 64 rows at a time should be asked for.
/// Threads: safe.
void WidenRows(const MatrixView& view, std::int64_t row_begin,
               std::int64_t rows, float* out);

/// The same for a block; `out` has rows `out_stride` apart.
void WidenBlock(const MatrixView& view, const MatrixBlock& block, float* out,
                std::int64_t out_stride);

/// The element type of what BlockReader hands out: plain types stay.
constexpr ElementType DenseType(ElementType type) {
  return IsQuantised(type) ? ElementType::kFloat32 : type;
}

/// Elements that are NaN or infinite.
/// Errors: CANCELLED, DEADLINE_EXCEEDED.
/// Threads: rows are shared out through `pool`.
absl::StatusOr<std::int64_t> CountNonfinite(const MatrixView& view,
                                            ThreadPool& pool,
                                            const RunContext& context);

/// Hands out blocks of any view as dense matrices: in place where the view is
/// dense, else copied into memory of its own, plain elements in their own type
/// and quantised ones widened. One reader serves block after block, so that no
/// more than a block of a matrix is ever widened.
/// Threads: one at a time.
class BlockReader {
 public:
  /// Valid until the next call and as long as `view`'s memory.
  MatrixView Read(const MatrixView& view, const MatrixBlock& block);

 private:
  std::vector<std::byte> memory_;
};

}  // namespace moescope::numerics
