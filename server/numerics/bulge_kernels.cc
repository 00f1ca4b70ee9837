#include "server/numerics/bulge_kernels_internal.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/bulge_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::BandMatrix;
using internal::kBand;
using internal::Reflector;
using Doubles = hn::CappedTag<double, 8>;
using DoubleVector = hn::Vec<Doubles>;

constexpr std::int64_t kLanes = hn::MaxLanes(Doubles());
constexpr std::int64_t kVectors = kBand / kLanes;
constexpr std::int64_t kStride = BandMatrix::kColumnStride;
// Of a sum of squares: below it they would have lost digits.
constexpr double kSmallestSquare = 0x1p-900;

HWY_INLINE double Sum(DoubleVector x) {
  const Doubles d;
  return hn::GetLane(hn::SumOfLanes(d, x));
}

// kBand numbers in registers.
struct Line {
  DoubleVector part[kVectors];
};

HWY_INLINE Line LoadLine(const double* from) {
  const Doubles d;
  Line line;
  for (std::int64_t v = 0; v < kVectors; ++v) {
    line.part[v] = hn::LoadU(d, from + v * kLanes);
  }
  return line;
}

HWY_INLINE void StoreLine(const Line& line, double* to) {
  const Doubles d;
  for (std::int64_t v = 0; v < kVectors; ++v) {
    hn::StoreU(line.part[v], d, to + v * kLanes);
  }
}

HWY_INLINE double Dot(const Line& a, const Line& b) {
  DoubleVector sum = hn::Mul(a.part[0], b.part[0]);
  for (std::int64_t v = 1; v < kVectors; ++v) {
    sum = hn::MulAdd(a.part[v], b.part[v], sum);
  }
  return Sum(sum);
}

// line += factor · other.
HWY_INLINE void AddScaled(double factor, const Line& other, Line& line) {
  const Doubles d;
  const DoubleVector wide = hn::Set(d, factor);
  for (std::int64_t v = 0; v < kVectors; ++v) {
    line.part[v] = hn::MulAdd(wide, other.part[v], line.part[v]);
  }
}

void MakeReflector(double* x, Reflector& reflector) {
  double tail = 0;
  for (std::int64_t i = 1; i < kBand; ++i) {
    tail += x[i] * x[i];
  }
  reflector.v[0] = 1;
  if (tail < kSmallestSquare) {
    reflector.tau = 0;
    for (std::int64_t i = 1; i < kBand; ++i) {
      reflector.v[i] = x[i] = 0;
    }
    return;
  }
  // The sign that avoids cancellation.
  const double image = -std::copysign(std::sqrt(x[0] * x[0] + tail), x[0]);
  reflector.tau = (image - x[0]) / image;
  const double scale = 1 / (x[0] - image);
  for (std::int64_t i = 1; i < kBand; ++i) {
    reflector.v[i] = x[i] * scale;
    x[i] = 0;
  }
  x[0] = image;
}

// Columns kFirst · kLanes and on of the lower half of a block: adds its product
// with v to `product` and, for what lies above the diagonal, to `sums`.
template <std::int64_t kFirst>
HWY_INLINE void MultiplyLower(const double* block, const double* numbers,
                              const Line& v, Line& product, double* sums) {
  const Doubles d;
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    const std::int64_t column = kFirst * kLanes + lane;
    const double* const entries = block + column * kStride;
    const auto number = hn::Set(d, numbers[column]);
    const auto until_diagonal =
        hn::FirstN(d, static_cast<std::size_t>(lane + 1));
    auto x = hn::LoadU(d, entries + kFirst * kLanes);
    product.part[kFirst] = hn::MulAdd(x, number, product.part[kFirst]);
    auto sum =
        hn::Mul(hn::IfThenZeroElse(until_diagonal, x), v.part[kFirst]);
    for (std::int64_t p = kFirst + 1; p < kVectors; ++p) {
      x = hn::LoadU(d, entries + p * kLanes);
      product.part[p] = hn::MulAdd(x, number, product.part[p]);
      sum = hn::MulAdd(x, v.part[p], sum);
    }
    sums[column] = Sum(sum);
  }
  if constexpr (kFirst + 1 < kVectors) {
    MultiplyLower<kFirst + 1>(block, numbers, v, product, sums);
  }
}

// The same columns −= v wᵀ + w vᵀ.
template <std::int64_t kFirst>
HWY_INLINE void UpdateLower(double* block, const double* v_numbers,
                            const double* w_numbers, const Line& v,
                            const Line& w) {
  const Doubles d;
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    const std::int64_t column = kFirst * kLanes + lane;
    double* const entries = block + column * kStride;
    const auto v_number = hn::Set(d, v_numbers[column]);
    const auto w_number = hn::Set(d, w_numbers[column]);
    for (std::int64_t p = kFirst; p < kVectors; ++p) {
      auto x = hn::LoadU(d, entries + p * kLanes);
      x = hn::NegMulAdd(v.part[p], w_number, x);
      x = hn::NegMulAdd(w.part[p], v_number, x);
      if (p == kFirst) {
        const auto above = hn::FirstN(d, static_cast<std::size_t>(lane));
        x = hn::IfThenZeroElse(above, x);
      }
      hn::StoreU(x, d, entries + p * kLanes);
    }
  }
  if constexpr (kFirst + 1 < kVectors) {
    UpdateLower<kFirst + 1>(block, v_numbers, w_numbers, v, w);
  }
}

// (I − τ v vᵀ) A (I − τ v vᵀ) = A − v wᵀ − w vᵀ with p = τ A v and w = p − ½ τ
// (pᵀ v) v.
HWY_INLINE void ApplyTwoSided(const Reflector& reflector, double* block) {
  const Doubles d;
  const Line v = LoadLine(reflector.v);
  Line w;
  for (DoubleVector& part : w.part) {
    part = hn::Zero(d);
  }
  HWY_ALIGN double numbers[kBand];
  MultiplyLower<0>(block, reflector.v, v, w, numbers);
  const DoubleVector tau = hn::Set(d, reflector.tau);
  for (std::int64_t p = 0; p < kVectors; ++p) {
    w.part[p] =
        hn::Mul(tau, hn::Add(w.part[p], hn::Load(d, numbers + p * kLanes)));
  }
  AddScaled(-0.5 * reflector.tau * Dot(w, v), v, w);
  StoreLine(w, numbers);
  UpdateLower<0>(block, reflector.v, numbers, v, w);
}

void ChaseBulge(double* diagonal, Reflector& reflector) {
  const Doubles d;
  ApplyTwoSided(reflector, diagonal);
  double* const block = diagonal + kBand;
  // From the right: B − (τ B v) vᵀ.
  Line product;
  for (DoubleVector& part : product.part) {
    part = hn::Zero(d);
  }
  for (std::int64_t c = 0; c < kBand; ++c) {
    AddScaled(reflector.v[c], LoadLine(block + c * kStride), product);
  }
  for (DoubleVector& part : product.part) {
    part = hn::Mul(hn::Set(d, -reflector.tau), part);
  }
  Line first = LoadLine(block);
  AddScaled(reflector.v[0], product, first);
  StoreLine(first, block);
  Reflector next;
  HWY_NAMESPACE::MakeReflector(block, next);
  // The same for the other columns, and the next reflector from the left.
  const Line u = LoadLine(next.v);
  for (std::int64_t c = 1; c < kBand; ++c) {
    Line x = LoadLine(block + c * kStride);
    AddScaled(reflector.v[c], product, x);
    AddScaled(-next.tau * Dot(u, x), u, x);
    StoreLine(x, block + c * kStride);
  }
  reflector = next;
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(MakeReflector);
HWY_EXPORT(ChaseBulge);
}  // namespace

namespace internal {

void MakeReflector(double* x, Reflector& reflector) {
  HWY_DYNAMIC_DISPATCH(MakeReflector)(x, reflector);
}

void ChaseBulge(double* diagonal, Reflector& reflector) {
  HWY_DYNAMIC_DISPATCH(ChaseBulge)(diagonal, reflector);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
