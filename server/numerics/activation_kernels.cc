#include "server/numerics/activation_kernels_internal.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/activation_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::ActivationWork;
using internal::kNumPlanes;
using internal::kRouted;
using Doubles = hn::ScalableTag<double>;
using DoubleVector = hn::Vec<Doubles>;
using DoubleMask = hn::Mask<Doubles>;

constexpr std::size_t kMaxLanes = 8;

struct Sums {
  DoubleVector sum, sum_abs, squares, over, max;
};

HWY_INLINE Sums LoadSums(const std::array<double*, kNumPlanes>& planes,
                         std::size_t first, std::int64_t at) {
  const Doubles d;
  return {hn::LoadU(d, planes[first + internal::kSum] + at),
          hn::LoadU(d, planes[first + internal::kSumAbs] + at),
          hn::LoadU(d, planes[first + internal::kSquares] + at),
          hn::LoadU(d, planes[first + internal::kOver] + at),
          hn::LoadU(d, planes[first + internal::kMax] + at)};
}

HWY_INLINE void StoreSums(const Sums& sums,
                          const std::array<double*, kNumPlanes>& planes,
                          std::size_t first, std::int64_t at) {
  const Doubles d;
  hn::StoreU(sums.sum, d, planes[first + internal::kSum] + at);
  hn::StoreU(sums.sum_abs, d, planes[first + internal::kSumAbs] + at);
  hn::StoreU(sums.squares, d, planes[first + internal::kSquares] + at);
  hn::StoreU(sums.over, d, planes[first + internal::kOver] + at);
  hn::StoreU(sums.max, d, planes[first + internal::kMax] + at);
}

HWY_INLINE void AddValue(DoubleVector value, DoubleVector magnitude,
                         DoubleMask finite, DoubleMask over, Sums& sums) {
  const Doubles d;
  sums.sum = hn::Add(sums.sum, value);
  sums.sum_abs = hn::Add(sums.sum_abs, magnitude);
  // Exact whether fused or not: the square of an fp32 number fits fp64.
  sums.squares = hn::MulAdd(value, value, sums.squares);
  sums.over = hn::Add(sums.over, hn::IfThenElseZero(over, hn::Set(d, 1.0)));
  sums.max = hn::IfThenElse(hn::And(finite, hn::Gt(value, sums.max)), value,
                            sums.max);
}

// One vector of neurons. `valid` lanes are neurons, the others padding.
HWY_INLINE void AccumulateStrip(
    const float* values, std::int64_t row_stride, DoubleMask valid,
    const std::array<double*, kNumPlanes>& planes, std::int64_t at,
    ActivationWork& work) {
  const Doubles d;
  const hn::Rebind<float, Doubles> narrow;
  Sums all = LoadSums(planes, 0, at);
  Sums routed = LoadSums(planes, kRouted, at);
  const DoubleVector largest =
      hn::Set(d, static_cast<double>(std::numeric_limits<float>::max()));
  for (std::int64_t r = 0; r < work.rows; ++r) {
    const DoubleVector value =
        hn::PromoteTo(d, hn::LoadU(narrow, values + r * row_stride));
    const DoubleVector magnitude = hn::Abs(value);
    const DoubleMask finite = hn::And(valid, hn::Le(magnitude, largest));
    const bool is_routed = work.routed[r] != 0;
    work.nonfinite += static_cast<std::int64_t>(
        hn::CountTrue(d, hn::And(valid, hn::Not(finite))));
    DoubleMask first_over = finite;
    for (std::size_t h = 0; h < work.thresholds.size(); ++h) {
      const DoubleVector threshold = hn::Set(d, work.thresholds[h]);
      const DoubleMask over =
          hn::And(finite, hn::Gt(magnitude, threshold));
      const auto count = static_cast<std::int64_t>(hn::CountTrue(d, over));
      work.over[h] += count;
      work.over_routed[h] += is_routed ? count : 0;
      const DoubleMask near =
          hn::And(finite, hn::Lt(hn::Abs(hn::Sub(magnitude, threshold)),
                                 hn::Set(d, internal::kNearThreshold)));
      work.near_threshold += static_cast<std::int64_t>(hn::CountTrue(d, near));
      first_over = h == 0 ? over : first_over;
    }
    AddValue(value, magnitude, finite, first_over, all);
    if (is_routed) {
      AddValue(value, magnitude, finite, first_over, routed);
    }
  }
  StoreSums(all, planes, 0, at);
  StoreSums(routed, planes, kRouted, at);
}

// The neurons after the last whole vector, through padded copies.
void AccumulateTail(std::int64_t begin, ActivationWork& work) {
  const Doubles d;
  const auto count = static_cast<std::size_t>(work.width - begin);
  double copies[kNumPlanes][kMaxLanes] = {};
  std::array<double*, kNumPlanes> planes = {};
  for (std::size_t p = 0; p < kNumPlanes; ++p) {
    std::copy_n(work.planes[p] + begin, count, copies[p]);
    planes[p] = copies[p];
  }
  ActivationWork row = work;
  row.rows = 1;
  row.near_threshold = 0;
  row.nonfinite = 0;
  for (std::int64_t r = 0; r < work.rows; ++r) {
    float values[kMaxLanes] = {};
    std::copy_n(work.values + r * work.row_stride + begin, count, values);
    row.routed = work.routed + r;
    AccumulateStrip(values, 0, hn::FirstN(d, count), planes, 0, row);
  }
  work.near_threshold += row.near_threshold;
  work.nonfinite += row.nonfinite;
  for (std::size_t p = 0; p < kNumPlanes; ++p) {
    std::copy_n(copies[p], count, work.planes[p] + begin);
  }
}

void AccumulateActivations(ActivationWork& work) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const DoubleMask all = hn::FirstN(d, hn::Lanes(d));
  std::int64_t f = 0;
  for (; f + lanes <= work.width; f += lanes) {
    AccumulateStrip(work.values + f, work.row_stride, all, work.planes, f,
                    work);
  }
  if (f < work.width) {
    AccumulateTail(f, work);
  }
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(AccumulateActivations);
}  // namespace

namespace internal {

void AccumulateActivations(ActivationWork& work) {
  HWY_DYNAMIC_DISPATCH(AccumulateActivations)(work);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
