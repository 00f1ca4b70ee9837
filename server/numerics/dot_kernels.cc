#include "server/numerics/dot_kernels_internal.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/dot_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows whose products with one row are summed together.
constexpr std::int64_t kTile = 4;

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

using Doubles = hn::ScalableTag<double>;

HWY_INLINE hn::Vec<Doubles> LoadWide(const float* x) {
  const Doubles d;
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, Doubles>(), x));
}

double DotFloats(const float* x, const float* y, std::int64_t count) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  // Several sums, so that additions need not wait for each other.
  hn::Vec<Doubles> sums[kTile];
  for (auto& sum : sums) {
    sum = hn::Zero(d);
  }
  std::int64_t i = 0;
  for (; i + kTile * lanes <= count; i += kTile * lanes) {
    for (std::int64_t q = 0; q < kTile; ++q) {
      const std::int64_t at = i + q * lanes;
      sums[q] = hn::MulAdd(LoadWide(x + at), LoadWide(y + at), sums[q]);
    }
  }
  double sum = hn::GetLane(hn::SumOfLanes(
      d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
  for (; i < count; ++i) {
    sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  }
  return sum;
}

void AddColumnProducts(const float* x, const float* y, std::int64_t rows,
                       std::int64_t stride, std::int64_t count, double* sums) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    auto sum = hn::LoadU(d, sums + j);
    for (std::int64_t at = j; at < rows * stride; at += stride) {
      sum = hn::MulAdd(LoadWide(x + at), LoadWide(y + at), sum);
    }
    hn::StoreU(sum, d, sums + j);
  }
  for (; j < count; ++j) {
    for (std::int64_t at = j; at < rows * stride; at += stride) {
      sums[j] += static_cast<double>(x[at]) * static_cast<double>(y[at]);
    }
  }
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(DotRows);
HWY_EXPORT(DotFloats);
HWY_EXPORT(AddColumnProducts);
}  // namespace

namespace internal {

void DotRows(const double* rows, std::int64_t size, std::int64_t count,
             double* gram) {
  HWY_DYNAMIC_DISPATCH(DotRows)(rows, size, count, gram);
}

double DotFloats(const float* x, const float* y, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotFloats)(x, y, count);
}

void AddColumnProducts(const float* x, const float* y, std::int64_t rows,
                       std::int64_t stride, std::int64_t count, double* sums) {
  HWY_DYNAMIC_DISPATCH(AddColumnProducts)(x, y, rows, stride, count, sums);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
