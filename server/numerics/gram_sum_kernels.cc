#include "server/numerics/gram_kernels_internal.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/gram_sum_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "server/numerics/wide_load_internal.h"

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::kRunPadding;
using internal::SumAndSquares;

// Elements of a row whose sum is kept in fp32, as many sums as a vector has
// lanes.
constexpr std::int64_t kSegment = 1024;
constexpr std::int64_t kColumnRows = 16;

HWY_INLINE double Sum(FloatVector v) {
  const Floats d;
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, v)));
}

// Rows [row, row + kRows) of a block: adds to rows[] Σ x² and to columns[] Σ x,
// or the other way round.
template <typename T, bool kRowSquares, int kRows>
HWY_INLINE void AddStripSums(const MatrixView& block, std::int64_t row,
                             float* columns, double* rows) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto size = static_cast<std::int64_t>(sizeof(T));
  const Byte* const data =
      static_cast<const Byte*>(block.data) + row * block.row_stride * size;
  for (std::int64_t c0 = 0; c0 < block.cols; c0 += kSegment) {
    const std::int64_t c1 = std::min(block.cols, c0 + kSegment);
    FloatVector sums[kRows];
    for (FloatVector& sum : sums) {
      sum = hn::Zero(d);
    }
    const auto add = [&](FloatVector x, int r, FloatVector column) {
      const FloatVector plain = hn::Add(kRowSquares ? column : sums[r], x);
      const FloatVector square =
          hn::MulAdd(x, x, kRowSquares ? sums[r] : column);
      sums[r] = kRowSquares ? square : plain;
      return kRowSquares ? plain : square;
    };
    std::int64_t c = c0;
    for (; c + lanes <= c1; c += lanes) {
      FloatVector column = hn::LoadU(d, columns + c);
      for (int r = 0; r < kRows; ++r) {
        column =
            add(LoadWide<T>(data + (r * block.row_stride + c) * size), r, column);
      }
      hn::StoreU(column, d, columns + c);
    }
    if (c < c1) {
      FloatVector column = LoadWideTail<float>(
          reinterpret_cast<const Byte*>(columns + c), c1 - c);
      for (int r = 0; r < kRows; ++r) {
        column = add(LoadWideTail<T>(data + (r * block.row_stride + c) * size,
                                     c1 - c),
                     r, column);
      }
      HWY_ALIGN float tail[kRunPadding];
      hn::StoreU(column, d, tail);
      std::copy_n(tail, c1 - c, columns + c);
    }
    for (int r = 0; r < kRows; ++r) {
      rows[row + r] += Sum(sums[r]);
    }
  }
}

template <typename T, bool kRowSquares>
void AddSumsOf(const MatrixView& block, float* columns, double* rows) {
  constexpr int kStrip = 8;
  std::int64_t row = 0;
  for (; row + kStrip <= block.rows; row += kStrip) {
    AddStripSums<T, kRowSquares, kStrip>(block, row, columns, rows);
  }
  for (; row < block.rows; ++row) {
    AddStripSums<T, kRowSquares, 1>(block, row, columns, rows);
  }
}

template <bool kRowSquares>
void AddSumsAs(const MatrixView& block, float* columns, double* rows) {
  switch (block.type) {
    case ElementType::kBFloat16:
      return AddSumsOf<hwy::bfloat16_t, kRowSquares>(block, columns, rows);
    case ElementType::kFloat16:
      return AddSumsOf<hwy::float16_t, kRowSquares>(block, columns, rows);
    default:
      return AddSumsOf<float, kRowSquares>(block, columns, rows);
  }
}

void AddRowSquaresAndColumnSums(const MatrixView& block, float* columns,
                                double* rows) {
  AddSumsAs<true>(block, columns, rows);
}

void AddRowSumsAndColumnSquares(const MatrixView& block, float* columns,
                                double* rows) {
  AddSumsAs<false>(block, columns, rows);
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

template <typename T, bool kSquares>
void AddColumnsOf(const MatrixView& block, float* sums) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto size = static_cast<std::int64_t>(sizeof(T));
  const Byte* const data = static_cast<const Byte*>(block.data);
  for (std::int64_t r0 = 0; r0 < block.rows; r0 += kColumnRows) {
    const std::int64_t r1 = std::min(block.rows, r0 + kColumnRows);
    for (std::int64_t c = 0; c < block.cols; c += lanes) {
      const std::int64_t count = std::min(lanes, block.cols - c);
      FloatVector sum =
          count == lanes
              ? hn::LoadU(d, sums + c)
              : LoadWideTail<float>(reinterpret_cast<const Byte*>(sums + c),
                                    count);
      for (std::int64_t r = r0; r < r1; ++r) {
        const Byte* const at = data + (r * block.row_stride + c) * size;
        const FloatVector x =
            count == lanes ? LoadWide<T>(at) : LoadWideTail<T>(at, count);
        sum = kSquares ? hn::MulAdd(x, x, sum) : hn::Add(sum, x);
      }
      HWY_ALIGN float tail[kRunPadding];
      hn::StoreU(sum, d, tail);
      std::copy_n(tail, count, sums + c);
    }
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
void AddColumnsOf(const MatrixView& block, float* sums, float* squares) {
  if (sums != nullptr) {
    AddColumnsOf<T, false>(block, sums);
  }
  if (squares != nullptr) {
    AddColumnsOf<T, true>(block, squares);
  }
}

void AddColumns(const MatrixView& block, float* sums, float* squares) {
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

void MoveSums(float* part, std::int64_t count, double* total) {
  const hn::ScalableTag<double> wide;
  const hn::Rebind<float, decltype(wide)> narrow;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(wide));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto sum = hn::PromoteTo(wide, hn::LoadU(narrow, part + i));
    hn::StoreU(hn::Add(hn::LoadU(wide, total + i), sum), wide, total + i);
    hn::StoreU(hn::Zero(narrow), narrow, part + i);
  }
  for (; i < count; ++i) {
    total[i] += static_cast<double>(part[i]);
    part[i] = 0;
  }
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(AddRowSquaresAndColumnSums);
HWY_EXPORT(AddRowSumsAndColumnSquares);
HWY_EXPORT(SumRow);
HWY_EXPORT(AddColumns);
HWY_EXPORT(MoveSums);
}  // namespace

namespace internal {

void AddRowSquaresAndColumnSums(const MatrixView& block, float* columns,
                                double* rows) {
  HWY_DYNAMIC_DISPATCH(AddRowSquaresAndColumnSums)(block, columns, rows);
}

void AddRowSumsAndColumnSquares(const MatrixView& block, float* columns,
                                double* rows) {
  HWY_DYNAMIC_DISPATCH(AddRowSumsAndColumnSquares)(block, columns, rows);
}

SumAndSquares SumRow(const void* data, ElementType type, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(SumRow)(static_cast<const std::uint8_t*>(data),
                                      type, count);
}

void AddColumns(const MatrixView& block, float* sums, float* squares) {
  HWY_DYNAMIC_DISPATCH(AddColumns)(block, sums, squares);
}

void MoveSums(float* part, std::int64_t count, double* total) {
  HWY_DYNAMIC_DISPATCH(MoveSums)(part, count, total);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
