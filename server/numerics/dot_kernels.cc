#include "server/numerics/gram_kernels_internal.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/dot_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::kTile;

// Products of one row with kTile rows, all in fp64.
HWY_INLINE void DotTile(const double* left, const double* const* right,
                        std::int64_t count, double* out) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<decltype(d)> sums[kTile];
  for (auto& sum : sums) {
    sum = hn::Zero(d);
  }
  std::int64_t t = 0;
  for (; t + lanes <= count; t += lanes) {
    const auto x = hn::LoadU(d, left + t);
    for (std::int64_t q = 0; q < kTile; ++q) {
      sums[q] = hn::MulAdd(x, hn::LoadU(d, right[q] + t), sums[q]);
    }
  }
  for (std::int64_t q = 0; q < kTile; ++q) {
    double sum = hn::GetLane(hn::SumOfLanes(d, sums[q]));
    for (std::int64_t i = t; i < count; ++i) {
      sum += left[i] * right[q][i];
    }
    out[q] = sum;
  }
}

void DotRows(const double* rows, std::int64_t size, std::int64_t count,
             double* gram) {
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = 0; j <= i; j += kTile) {
      const double* right[kTile];
      double products[kTile];
      for (std::int64_t q = 0; q < kTile; ++q) {
        right[q] = rows + std::min(j + q, i) * count;
      }
      DotTile(rows + i * count, right, count, products);
      for (std::int64_t q = 0; q < std::min(kTile, i + 1 - j); ++q) {
        gram[i * size + j + q] = products[q];
        gram[(j + q) * size + i] = products[q];
      }
    }
  }
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(DotRows);
}  // namespace

namespace internal {

void DotRows(const double* rows, std::int64_t size, std::int64_t count,
             double* gram) {
  HWY_DYNAMIC_DISPATCH(DotRows)(rows, size, count, gram);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
