#include "server/numerics/dot_kernels_internal.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/dot_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::MatchedProducts;
using internal::MatchedSums;

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

MatchedProducts DotMatched(const float* x, const float* y, const float* match,
                           std::int64_t count) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  // Several sums of each, so that additions need not wait for each other.
  constexpr std::int64_t kSums = 2;
  hn::Vec<Doubles> left[kSums];
  hn::Vec<Doubles> right[kSums];
  hn::Vec<Doubles> unmatched[kSums];
  hn::Vec<Doubles> matched[kSums];
  for (std::int64_t q = 0; q < kSums; ++q) {
    left[q] = right[q] = unmatched[q] = matched[q] = hn::Zero(d);
  }
  std::int64_t i = 0;
  for (; i + kSums * lanes <= count; i += kSums * lanes) {
    for (std::int64_t q = 0; q < kSums; ++q) {
      const auto a = LoadWide(x + i + q * lanes);
      const auto b = LoadWide(y + i + q * lanes);
      left[q] = hn::MulAdd(a, a, left[q]);
      right[q] = hn::MulAdd(b, b, right[q]);
      unmatched[q] = hn::MulAdd(a, b, unmatched[q]);
      matched[q] = hn::MulAdd(a, LoadWide(match + i + q * lanes), matched[q]);
    }
  }
  const auto total = [d](const hn::Vec<Doubles>* sums) {
    return hn::GetLane(hn::SumOfLanes(d, hn::Add(sums[0], sums[1])));
  };
  MatchedProducts products = {total(left), total(right), total(unmatched),
                              total(matched)};
  for (; i < count; ++i) {
    const double a = x[i];
    const double b = y[i];
    products.left += a * a;
    products.right += b * b;
    products.unmatched += a * b;
    products.matched += a * static_cast<double>(match[i]);
  }
  return products;
}

void AddMatchedColumns(const float* x, const float* y, const float* match,
                       std::int64_t rows, std::int64_t stride,
                       std::int64_t count, const MatchedSums& sums) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    auto left = hn::LoadU(d, sums.left + j);
    auto right = hn::LoadU(d, sums.right + j);
    auto unmatched = hn::LoadU(d, sums.unmatched + j);
    auto matched = hn::LoadU(d, sums.matched + j);
    for (std::int64_t at = j; at < rows * stride; at += stride) {
      const auto a = LoadWide(x + at);
      const auto b = LoadWide(y + at);
      left = hn::MulAdd(a, a, left);
      right = hn::MulAdd(b, b, right);
      unmatched = hn::MulAdd(a, b, unmatched);
      matched = hn::MulAdd(a, LoadWide(match + at), matched);
    }
    hn::StoreU(left, d, sums.left + j);
    hn::StoreU(right, d, sums.right + j);
    hn::StoreU(unmatched, d, sums.unmatched + j);
    hn::StoreU(matched, d, sums.matched + j);
  }
  for (; j < count; ++j) {
    for (std::int64_t at = j; at < rows * stride; at += stride) {
      const double a = x[at];
      const double b = y[at];
      sums.left[j] += a * a;
      sums.right[j] += b * b;
      sums.unmatched[j] += a * b;
      sums.matched[j] += a * static_cast<double>(match[at]);
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
HWY_EXPORT(DotMatched);
HWY_EXPORT(AddMatchedColumns);
}  // namespace

namespace internal {

void DotRows(const double* rows, std::int64_t size, std::int64_t count,
             double* gram) {
  HWY_DYNAMIC_DISPATCH(DotRows)(rows, size, count, gram);
}

double DotFloats(const float* x, const float* y, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotFloats)(x, y, count);
}

MatchedProducts DotMatched(const float* x, const float* y, const float* match,
                           std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotMatched)(x, y, match, count);
}

void AddMatchedColumns(const float* x, const float* y, const float* match,
                       std::int64_t rows, std::int64_t stride,
                       std::int64_t count, const MatchedSums& sums) {
  HWY_DYNAMIC_DISPATCH(AddMatchedColumns)
  (x, y, match, rows, stride, count, sums);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
