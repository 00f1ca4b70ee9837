#include "server/numerics/block_product_kernels_internal.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/block_product_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::BlockFactor;
using internal::kBlockWidth;
using Doubles = hn::CappedTag<double, 8>;

// The products of kRows rows from `first` on, in registers: with 512-bit vectors
// one for each row.
template <std::int64_t kRows>
HWY_INLINE void MultiplyRows(const BlockFactor& factor, std::int64_t first,
                             const double* block, double* out) {
  const Doubles d;
  constexpr std::int64_t kLanes = hn::MaxLanes(Doubles());
  constexpr std::int64_t kVectors = kBlockWidth / kLanes;
  hn::Vec<Doubles> sums[kRows][kVectors];
  for (auto& row : sums) {
    for (auto& sum : row) {
      sum = hn::Zero(d);
    }
  }
  const double* entries = factor.data + first * factor.row_stride;
  for (std::int64_t t = 0; t < factor.cols; ++t) {
    hn::Vec<Doubles> numbers[kVectors];
    for (std::int64_t v = 0; v < kVectors; ++v) {
      numbers[v] = hn::LoadU(d, block + t * kBlockWidth + v * kLanes);
    }
    for (std::int64_t r = 0; r < kRows; ++r) {
      const auto entry = hn::Set(d, entries[r * factor.row_stride]);
      for (std::int64_t v = 0; v < kVectors; ++v) {
        sums[r][v] = hn::MulAdd(entry, numbers[v], sums[r][v]);
      }
    }
    entries += factor.col_stride;
  }
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      hn::StoreU(sums[r][v], d, out + (first + r) * kBlockWidth + v * kLanes);
    }
  }
}

void MultiplyBlock(const BlockFactor& factor, const double* block,
                   double* out) {
  constexpr std::int64_t kTogether = 8;
  std::int64_t r = 0;
  for (; r + kTogether <= factor.rows; r += kTogether) {
    MultiplyRows<kTogether>(factor, r, block, out);
  }
  for (; r < factor.rows; ++r) {
    MultiplyRows<1>(factor, r, block, out);
  }
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(MultiplyBlock);
}  // namespace

namespace internal {

void MultiplyBlock(const BlockFactor& factor, const double* block,
                   double* out) {
  HWY_DYNAMIC_DISPATCH(MultiplyBlock)(factor, block, out);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
