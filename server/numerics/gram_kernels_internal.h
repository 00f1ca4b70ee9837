#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/numerics/gram.h"
#include "moescope/numerics/matrix_view.h"

// The inner loops of ComputeGram, one core each, dispatched at run time. They
// read dense matrices of plain types.
namespace moescope::numerics::internal {

/// Participants of a tile. Callers pad their number to a multiple of it.
inline constexpr std::int64_t kTile = 4;
/// Widened runs are padded with zeros to a multiple of this many floats: the
/// longest vector of any target.
inline constexpr std::int64_t kRunPadding = 16;

constexpr std::int64_t RoundUp(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// ComputeGram but for squares beyond the range of fp32. With `exponents`, one per
/// participant, of the matrices divided by 2^exponent, in fp32, block by block.
absl::StatusOr<GramResult> ComputePlainGram(
    absl::Span<const MatrixView> participants, absl::Span<const int> exponents,
    const GramOptions& options, ThreadPool& pool, const RunContext& context);

/// Widens `count` elements at `data` to fp32 and pads with zeros. What lies
/// `ahead` bytes after them is fetched into the cache meanwhile.
void WidenRun(const void* data, ElementType type, std::int64_t count,
              std::int64_t ahead, float* out);

/// Floats that the lanes of the sums of `number` participants take, on any
/// target.
constexpr std::int64_t GramLanes(std::int64_t number) {
  return RoundUp(number, kTile) * RoundUp(number, kTile) * kRunPadding;
}

/// Adds the products of all pairs i ≤ j of `runs`, each `count` floats (a
/// multiple of kRunPadding), to the upper triangle of `gram` [size, size], where
/// `size` is the number of runs rounded up to a multiple of kTile. With `lanes`,
/// GramLanes(number of runs) floats, they are added there instead, in whole
/// vectors: for runs that are continued in further calls.
void AddGramBlock(absl::Span<const float* const> runs, std::int64_t count,
                  float* lanes, std::int64_t size, double* gram);

/// Adds the lanes of `number` runs to `gram` and clears them.
void MoveGramLanes(std::int64_t number, float* lanes, std::int64_t size,
                   double* gram);

/// The same two for bf16 read in place, any `count`, by the processor's own
/// product; only where UseNativeBFloat16(). Here the number of runs is a
/// multiple of kTile. `ahead`: that many bytes after each run are fetched into
/// the cache meanwhile, 0 for none.
void AddGramBlockNativeBFloat16(absl::Span<const void* const> runs,
                                std::int64_t count, std::int64_t ahead,
                                float* lanes, double* gram);
void MoveGramLanesNativeBFloat16(std::int64_t number, float* lanes,
                                 double* gram);

/// Standardises `count` coordinates of `sources`, at least two participants of
/// one plain type: row i - 1 of `out`, rows `stride` apart, becomes (x_i - x_0)
/// over the sample deviation of the coordinate, 0 where all agree, in an order
/// of coordinates that is the same for all rows. Rows are padded with zeros to a
/// multiple of 2 kRunPadding, which `stride` must hold. What follows each source
/// in memory is fetched into the cache meanwhile. `scratch` holds
/// 2 kRunPadding floats per participant.
void Standardise(absl::Span<const void* const> sources, ElementType type,
                 std::int64_t count, std::int64_t ahead, float* scratch,
                 float* out, std::int64_t stride);

struct SumAndSquares {
  double sum = 0;
  double squares = 0;
};

/// Sum and sum of squares of `count` elements.
SumAndSquares SumRow(const void* data, ElementType type, std::int64_t count);

/// Adds each column's sum to sums[0 … cols) and of squares to squares[0 …
/// cols); either may be null.
void AddColumns(const MatrixView& block, float* sums, float* squares);

/// Adds `count` sums of fp32 to those of fp64 and clears them.
void MoveSums(float* part, std::int64_t count, double* total);

/// Both sides at once: adds to rows[0 … rows) and to columns[0 … cols). Those of
/// bf16 by the processor's own product: only where UseNativeBFloat16().
void AddRowSquaresAndColumnSums(const MatrixView& block, float* columns,
                                double* rows);
void AddRowSumsAndColumnSquares(const MatrixView& block, float* columns,
                                double* rows);
void AddRowSquaresAndColumnSumsNativeBFloat16(const MatrixView& block,
                                              float* columns, double* rows);
void AddRowSumsAndColumnSquaresNativeBFloat16(const MatrixView& block,
                                              float* columns, double* rows);

}  // namespace moescope::numerics::internal
