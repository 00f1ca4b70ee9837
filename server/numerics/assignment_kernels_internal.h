#pragma once

#include <cstdint>

// The inner loops of SolveAssignment, dispatched at run time. Kernels
// in floating point serve duals to start from; the others are integer: every
// target gives the same result.
namespace moescope::numerics::internal {

/// Room that a list of collected columns needs beyond its longest content.
inline constexpr std::int64_t kCollectPadding = 16;
/// Shifts (duals) in 32 bits must stay below this, so that no difference with a
/// cost overflows.
inline constexpr std::int64_t kMaxShift = std::int64_t{1} << 30;

/// out[j] = −round(values[j] · 2^28), halves to even. False when an entry is
/// NaN or its magnitude above `limit`; then `out` is unspecified.
bool QuantiseRun(const float* values, std::int64_t count, float limit,
                 std::int32_t* out);

/// Writes the columns j of [begin, end) with row[j] − shift[j] < bound to
/// `out`, rising; returns how many.
std::int64_t CollectBelow(const std::int32_t* row, const std::int32_t* shift,
                          std::int64_t begin, std::int64_t end,
                          std::int32_t bound, std::int32_t* out);
/// The same in 64 bits.
std::int64_t CollectBelowWide(const std::int32_t* row,
                              const std::int64_t* shift, std::int64_t begin,
                              std::int64_t end, std::int64_t bound,
                              std::int32_t* out);
/// The columns with row[j] − shift < bounds[j].
std::int64_t CollectBelowEach(const std::int32_t* row, std::int32_t shift,
                              const std::int32_t* bounds, std::int64_t begin,
                              std::int64_t end, std::int32_t* out);

/// Moves the `count` least of `size` > count different keys to the front, in the
/// order that they had; returns the greatest of these. `scratch` has room for
/// size + kCollectPadding.
std::int64_t KeepLeast(std::int64_t* keys, std::int64_t size,
                       std::int64_t count, std::int64_t* scratch);

/// Groups among whose minima a bound on the least few entries is found.
inline constexpr std::int64_t kBoundGroups = 32;

/// One row of the search for bounds: lowers least_of_column[j] to row[j] −
/// row_shift, and sets group_least[g], g of [0, kBoundGroups), to the least
/// row[j] − column_shift[j] of a group of columns (the largest number when it is
/// empty); every column is in one. `next` is the row that comes next: it is
/// fetched meanwhile.
void LowerMinima(const std::int32_t* row, const std::int32_t* next,
                 std::int32_t row_shift,
                 const std::int32_t* column_shift, std::int64_t count,
                 std::int32_t* least_of_column, std::int32_t* group_least);

/// The number of rank `nth` (0: the least) among kBoundGroups.
std::int32_t NthOfGroups(const std::int32_t* values, std::int64_t nth);

/// The same for each column of `values` [kBoundGroups, stride], the first
/// `count` of them.
void NthOfEachColumn(const std::int32_t* values, std::int64_t stride,
                     std::int64_t count, std::int64_t nth, std::int32_t* out);

/// Least row[j] − shift[j]; `count` ≥ 1.
std::int64_t LeastDifference(const std::int32_t* row, const std::int64_t* shift,
                             std::int64_t count);

/// Σ_j row[j] x[j], in fp64; and sums[j] += factor · row[j].
double DotCosts(const std::int32_t* row, const double* x, std::int64_t count);
void AddCosts(const std::int32_t* row, double factor, std::int64_t count,
              double* sums);

/// Columns of a shortest path search over a whole matrix.
struct DenseSearch {
  std::int64_t count = 0;
  const std::int64_t* shift = nullptr;   // column duals
  const std::int64_t* closed = nullptr;  // −1 where settled, else 0
  std::int64_t* distance = nullptr;
  std::int64_t* previous = nullptr;
};
/// Offers every open column the distance base + row[j] − shift[j] through row
/// `id`; returns the open column of least distance, the lowest of equals, or
/// −1 when all are closed.
std::int64_t RelaxAll(const std::int32_t* row, std::int64_t base,
                      std::int64_t id, const DenseSearch& search);

/// One row of entropic transport in units of the temperature: x[j] = scale ·
/// row[j] + shift[j] (scale < 0); adds 2^x[j] / Σ 2^x to sums[j]. `buffer` has
/// room for `count`.
void AddTransportRow(const std::int32_t* row, const float* shift,
                     std::int64_t count, float scale, float* buffer,
                     float* sums);

}  // namespace moescope::numerics::internal
