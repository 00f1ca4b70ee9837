#include "server/numerics/gram_kernels_internal.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/gram_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::kRunPadding;
using internal::kTile;
using internal::RoundUp;
using internal::SumAndSquares;
using Byte = std::uint8_t;
using Floats = hn::ScalableTag<float>;
using FloatVector = hn::Vec<Floats>;

// Columns of a register tile: four by four sums fit 32 registers, not 16.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr std::int64_t kTileCols = 4;
#else
constexpr std::int64_t kTileCols = 2;
#endif
// Elements whose sum is kept in fp32.
constexpr std::int64_t kSegment = 2048;
constexpr std::int64_t kColumnRows = 16;

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
// Highway's emulated conversion takes infinities and NaN for large numbers.
HWY_INLINE float RestoreNonfinite(std::uint16_t half, float wide) {
  if ((half & 0x7c00) != 0x7c00) {
    return wide;
  }
  const float infinity = (half & 0x8000) != 0 ? -HUGE_VALF : HUGE_VALF;
  return (half & 0x3ff) != 0 ? std::nanf("") : infinity;
}

HWY_INLINE FloatVector RestoreNonfinite(const Byte* data, FloatVector wide) {
  const Floats d;
  std::uint16_t halves[kRunPadding];
  HWY_ALIGN float lanes[kRunPadding];
  std::memcpy(halves, data, hn::Lanes(d) * sizeof halves[0]);
  hn::StoreU(wide, d, lanes);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) {
    lanes[i] = RestoreNonfinite(halves[i], lanes[i]);
  }
  return hn::LoadU(d, lanes);
}
#else
HWY_INLINE FloatVector RestoreNonfinite(const Byte*, FloatVector wide) {
  return wide;
}
#endif

// Lanes(d) elements of type T at `data`, of any alignment, as fp32.
template <typename T>
HWY_INLINE FloatVector LoadWide(const Byte* data) {
  const Floats d;
  const hn::Rebind<T, Floats> narrow;
#if HWY_TARGET == HWY_SCALAR
  // The one-lane target would read through a misaligned pointer.
  T element;
  std::memcpy(&element, data, sizeof element);
  const T* const source = &element;
#else
  const T* const source = reinterpret_cast<const T*>(data);
#endif
  if constexpr (std::is_same_v<T, float>) {
    return hn::LoadU(d, source);
  } else if constexpr (std::is_same_v<T, hwy::float16_t>) {
    return RestoreNonfinite(data, hn::PromoteTo(d, hn::LoadU(narrow, source)));
  } else {
    return hn::PromoteTo(d, hn::LoadU(narrow, source));
  }
}

// The first `count` < Lanes(d) elements, zeros after them.
template <typename T>
HWY_INLINE FloatVector LoadWideTail(const Byte* data, std::int64_t count) {
  HWY_ALIGN Byte buffer[kRunPadding * sizeof(float)] = {};
  std::memcpy(buffer, data, static_cast<std::size_t>(count) * sizeof(T));
  return LoadWide<T>(buffer);
}

HWY_INLINE double Sum(FloatVector v) {
  const Floats d;
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, v)));
}

template <typename T>
void WidenRunOf(const Byte* data, std::int64_t count, float* out) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto size = static_cast<std::int64_t>(sizeof(T));
  std::int64_t t = 0;
  for (; t + lanes <= count; t += lanes) {
    hn::StoreU(LoadWide<T>(data + t * size), d, out + t);
  }
  if (t < count) {
    hn::StoreU(LoadWideTail<T>(data + t * size, count - t), d, out + t);
    t += lanes;
  }
  for (; t < RoundUp(count, kRunPadding); t += lanes) {
    hn::StoreU(hn::Zero(d), d, out + t);
  }
}

HWY_INLINE void AddGramTile(const float* const* left,
                            const float* const* right, std::int64_t count,
                            std::int64_t size, double* gram) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  FloatVector sums[kTile][kTileCols];
  for (auto& row : sums) {
    for (FloatVector& sum : row) {
      sum = hn::Zero(d);
    }
  }
  for (std::int64_t t = 0; t < count; t += lanes) {
    FloatVector x[kTile];
    for (std::int64_t p = 0; p < kTile; ++p) {
      x[p] = hn::LoadU(d, left[p] + t);
    }
    for (std::int64_t q = 0; q < kTileCols; ++q) {
      const FloatVector y = hn::LoadU(d, right[q] + t);
      for (std::int64_t p = 0; p < kTile; ++p) {
        sums[p][q] = hn::MulAdd(x[p], y, sums[p][q]);
      }
    }
  }
  for (std::int64_t p = 0; p < kTile; ++p) {
    for (std::int64_t q = 0; q < kTileCols; ++q) {
      gram[p * size + q] += Sum(sums[p][q]);
    }
  }
}

void AddGramBlock(const float* const* runs, std::int64_t size,
                  std::int64_t count, double* gram) {
  for (std::int64_t i = 0; i < size; i += kTile) {
    for (std::int64_t j = i; j < size; j += kTileCols) {
      AddGramTile(runs + i, runs + j, count, size, gram + i * size + j);
    }
  }
}

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

// One vector of coordinates.
HWY_INLINE void StandardiseStrip(float* runs, std::int64_t stride,
                                 std::int64_t participants) {
  const Floats d;
  // Differences from the first participant are exact where values are close,
  // which keeps nearly constant coordinates accurate.
  const FloatVector first = hn::LoadU(d, runs);
  FloatVector sum = hn::Zero(d);
  FloatVector low = hn::Zero(d);
  FloatVector high = hn::Zero(d);
  for (std::int64_t n = 0; n < participants; ++n) {
    const FloatVector x = hn::Sub(hn::LoadU(d, runs + n * stride), first);
    sum = hn::Add(sum, x);
    low = hn::Min(low, x);
    high = hn::Max(high, x);
    hn::StoreU(x, d, runs + n * stride);
  }
  const auto scalar = [d](double value) {
    return hn::Set(d, static_cast<float>(value));
  };
  const FloatVector range = hn::Sub(high, low);
  // Powers of two that keep squares of tiny and of huge values in range.
  const FloatVector scale = hn::IfThenElse(
      hn::Lt(range, scalar(0x1p-50)), scalar(0x1p100),
      hn::IfThenElse(hn::Gt(range, scalar(0x1p50)), scalar(0x1p-80),
                     scalar(1)));
  const FloatVector mean =
      hn::Div(sum, hn::Set(d, static_cast<float>(participants)));
  FloatVector squares = hn::Zero(d);
  for (std::int64_t n = 0; n < participants; ++n) {
    const FloatVector x = hn::Mul(
        hn::Sub(hn::LoadU(d, runs + n * stride), mean), scale);
    squares = hn::MulAdd(x, x, squares);
    hn::StoreU(x, d, runs + n * stride);
  }
  // A NaN among the values may be lost in Min and Max, never in the sum.
  const auto constant = hn::And(hn::Eq(high, low), hn::Eq(sum, sum));
  const FloatVector inverse = hn::Sqrt(hn::Div(
      hn::Set(d, static_cast<float>(participants - 1)), squares));
  for (std::int64_t n = 0; n < participants; ++n) {
    const FloatVector z = hn::Mul(hn::LoadU(d, runs + n * stride), inverse);
    hn::StoreU(hn::IfThenZeroElse(constant, z), d, runs + n * stride);
  }
}

void StandardiseRuns(float* runs, std::int64_t stride,
                     std::int64_t participants, std::int64_t count) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Floats()));
  for (std::int64_t t = 0; t < count; t += lanes) {
    StandardiseStrip(runs + t, stride, participants);
  }
}

template <typename T>
SumAndSquares SumSegment(const Byte* data, std::int64_t count) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto size = static_cast<std::int64_t>(sizeof(T));
  FloatVector sum0 = hn::Zero(d);
  FloatVector sum1 = hn::Zero(d);
  FloatVector squares0 = hn::Zero(d);
  FloatVector squares1 = hn::Zero(d);
  std::int64_t t = 0;
  for (; t + 2 * lanes <= count; t += 2 * lanes) {
    const FloatVector x = LoadWide<T>(data + t * size);
    const FloatVector y = LoadWide<T>(data + (t + lanes) * size);
    sum0 = hn::Add(sum0, x);
    sum1 = hn::Add(sum1, y);
    squares0 = hn::MulAdd(x, x, squares0);
    squares1 = hn::MulAdd(y, y, squares1);
  }
  for (; t < count; t += lanes) {
    const FloatVector x =
        t + lanes <= count ? LoadWide<T>(data + t * size)
                           : LoadWideTail<T>(data + t * size, count - t);
    sum0 = hn::Add(sum0, x);
    squares0 = hn::MulAdd(x, x, squares0);
  }
  return {Sum(hn::Add(sum0, sum1)), Sum(hn::Add(squares0, squares1))};
}

template <typename T>
SumAndSquares SumRowOf(const Byte* data, std::int64_t count) {
  SumAndSquares total;
  for (std::int64_t t = 0; t < count; t += kSegment) {
    const SumAndSquares part =
        SumSegment<T>(data + t * static_cast<std::int64_t>(sizeof(T)),
                      std::min(kSegment, count - t));
    total.sum += part.sum;
    total.squares += part.squares;
  }
  return total;
}

// Adds the first `count` lanes of `v` to out[0 … count).
HWY_INLINE void AddLanes(FloatVector v, std::int64_t count, double* out) {
  const hn::ScalableTag<double> wide;
  const hn::Rebind<float, decltype(wide)> half;
  const auto step = static_cast<std::int64_t>(hn::Lanes(wide));
  HWY_ALIGN float lanes[kRunPadding];
  hn::StoreU(v, Floats(), lanes);
  std::int64_t i = 0;
  for (; i + step <= count; i += step) {
    const auto sum = hn::PromoteTo(wide, hn::LoadU(half, lanes + i));
    hn::StoreU(hn::Add(hn::LoadU(wide, out + i), sum), wide, out + i);
  }
  for (; i < count; ++i) {
    out[i] += static_cast<double>(lanes[i]);
  }
}

template <typename T, bool kSquares>
void AddColumnsOf(const MatrixView& block, double* sums) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto size = static_cast<std::int64_t>(sizeof(T));
  const Byte* const data = static_cast<const Byte*>(block.data);
  for (std::int64_t r0 = 0; r0 < block.rows; r0 += kColumnRows) {
    const std::int64_t r1 = std::min(block.rows, r0 + kColumnRows);
    for (std::int64_t c = 0; c < block.cols; c += lanes) {
      const std::int64_t count = std::min(lanes, block.cols - c);
      FloatVector sum = hn::Zero(d);
      for (std::int64_t r = r0; r < r1; ++r) {
        const Byte* const at = data + (r * block.row_stride + c) * size;
        const FloatVector x =
            count == lanes ? LoadWide<T>(at) : LoadWideTail<T>(at, count);
        sum = kSquares ? hn::MulAdd(x, x, sum) : hn::Add(sum, x);
      }
      AddLanes(sum, count, sums + c);
    }
  }
}

void WidenRun(const Byte* data, ElementType type, std::int64_t count,
              float* out) {
  switch (type) {
    case ElementType::kBFloat16:
      return WidenRunOf<hwy::bfloat16_t>(data, count, out);
    case ElementType::kFloat16:
      return WidenRunOf<hwy::float16_t>(data, count, out);
    case ElementType::kFloat32:
      return WidenRunOf<float>(data, count, out);
    default:
      return;  // Quantised matrices come here widened.
  }
}

SumAndSquares SumRow(const Byte* data, ElementType type, std::int64_t count) {
  switch (type) {
    case ElementType::kBFloat16:
      return SumRowOf<hwy::bfloat16_t>(data, count);
    case ElementType::kFloat16:
      return SumRowOf<hwy::float16_t>(data, count);
    case ElementType::kFloat32:
      return SumRowOf<float>(data, count);
    default:
      return {};
  }
}

template <typename T>
void AddColumnsOf(const MatrixView& block, double* sums, double* squares) {
  if (sums != nullptr) {
    AddColumnsOf<T, false>(block, sums);
  }
  if (squares != nullptr) {
    AddColumnsOf<T, true>(block, squares);
  }
}

void AddColumns(const MatrixView& block, double* sums, double* squares) {
  switch (block.type) {
    case ElementType::kBFloat16:
      return AddColumnsOf<hwy::bfloat16_t>(block, sums, squares);
    case ElementType::kFloat16:
      return AddColumnsOf<hwy::float16_t>(block, sums, squares);
    case ElementType::kFloat32:
      return AddColumnsOf<float>(block, sums, squares);
    default:
      return;
  }
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(WidenRun);
HWY_EXPORT(AddGramBlock);
HWY_EXPORT(DotRows);
HWY_EXPORT(StandardiseRuns);
HWY_EXPORT(SumRow);
HWY_EXPORT(AddColumns);
}  // namespace

namespace internal {

void WidenRun(const void* data, ElementType type, std::int64_t count,
              float* out) {
  HWY_DYNAMIC_DISPATCH(WidenRun)
  (static_cast<const std::uint8_t*>(data), type, count, out);
}

void AddGramBlock(absl::Span<const float* const> runs, std::int64_t count,
                  double* gram) {
  HWY_DYNAMIC_DISPATCH(AddGramBlock)
  (runs.data(), static_cast<std::int64_t>(runs.size()), count, gram);
}

void DotRows(const double* rows, std::int64_t size, std::int64_t count,
             double* gram) {
  HWY_DYNAMIC_DISPATCH(DotRows)(rows, size, count, gram);
}

void StandardiseRuns(float* runs, std::int64_t stride,
                     std::int64_t participants, std::int64_t count) {
  HWY_DYNAMIC_DISPATCH(StandardiseRuns)(runs, stride, participants, count);
}

SumAndSquares SumRow(const void* data, ElementType type, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(SumRow)(static_cast<const std::uint8_t*>(data),
                                      type, count);
}

void AddColumns(const MatrixView& block, double* sums, double* squares) {
  HWY_DYNAMIC_DISPATCH(AddColumns)(block, sums, squares);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
