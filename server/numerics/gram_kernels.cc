#include "server/numerics/gram_kernels_internal.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/gram_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "server/numerics/wide_load_internal.h"

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using internal::kRunPadding;
using internal::kTile;
using internal::RoundUp;

// Columns of a register tile: four by four sums fit 32 registers, not 16.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr std::int64_t kTileCols = 4;
#else
constexpr std::int64_t kTileCols = 2;
#endif
HWY_INLINE double Sum(FloatVector v) {
  const Floats d;
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, v)));
}

template <typename T>
void WidenRunOf(const Byte* data, std::int64_t count, std::int64_t ahead,
                float* out) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto size = static_cast<std::int64_t>(sizeof(T));
  std::int64_t t = 0;
  for (; t + lanes <= count; t += lanes) {
    __builtin_prefetch(data + t * size + ahead, 0, 2);
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

// Adds the sums of the lanes of kTileCols vectors to out[0 … kTileCols).
HWY_INLINE void AddSums(const FloatVector (&sums)[kTileCols], double* out) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  // By transposing: all four at once, per block of 128 bits first.
  const Floats d;
  const hn::RepartitionToWide<Floats> wide;
  const auto halves = [&](FloatVector a, FloatVector b) {
    return hn::BitCast(wide, hn::Add(hn::InterleaveLower(d, a, b),
                                     hn::InterleaveUpper(d, a, b)));
  };
  const auto ab = halves(sums[0], sums[1]);
  const auto cd = halves(sums[2], sums[3]);
  const FloatVector blocks =
      hn::Add(hn::BitCast(d, hn::InterleaveLower(wide, ab, cd)),
              hn::BitCast(d, hn::InterleaveUpper(wide, ab, cd)));
  HWY_ALIGN float lanes[16];
  hn::Store(blocks, d, lanes);
  for (int q = 0; q < kTileCols; ++q) {
    out[q] += static_cast<double>((lanes[q] + lanes[q + 4]) +
                                  (lanes[q + 8] + lanes[q + 12]));
  }
#else
  for (std::int64_t q = 0; q < kTileCols; ++q) {
    out[q] += Sum(sums[q]);
  }
#endif
}

// A tile whose first column is kOffset after its first row, of which kCols
// columns are there; what lies below the diagonal is left out, and so are rows
// that would lie there in all columns.
//
// kHeld: the sums begin in `lanes`, kTile · kTileCols vectors, and stay there.
template <bool kHeld, int kOffset, int kCols>
HWY_INLINE void AddGramTile(const float* const* left,
                            const float* const* right, std::int64_t count,
                            float* lanes, std::int64_t size, double* gram) {
  constexpr std::int64_t kRows = std::min<std::int64_t>(kTile, kOffset + kCols);
  const Floats d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  FloatVector sums[kRows][kCols];
  for (std::int64_t p = 0; p < kRows; ++p) {
    for (std::int64_t q = 0; q < kCols; ++q) {
      sums[p][q] = kHeld ? hn::LoadU(d, lanes + (p * kTileCols + q) * step)
                         : hn::Zero(d);
    }
  }
  for (std::int64_t t = 0; t < count; t += step) {
    FloatVector x[kRows];
    FloatVector y[kCols];
    for (std::int64_t p = 0; p < kRows; ++p) {
      x[p] = hn::LoadU(d, left[p] + t);
    }
    for (std::int64_t q = 0; q < kCols; ++q) {
      y[q] = kOffset == 0 ? x[q] : hn::LoadU(d, right[q] + t);
    }
    for (std::int64_t q = 0; q < kCols; ++q) {
      for (std::int64_t p = 0; p < kRows; ++p) {
        if (p <= q + kOffset) {
          sums[p][q] = hn::MulAdd(x[p], y[q], sums[p][q]);
        }
      }
    }
  }
  for (std::int64_t p = 0; p < kRows; ++p) {
    if constexpr (kHeld) {
      for (std::int64_t q = 0; q < kCols; ++q) {
        hn::StoreU(sums[p][q], d, lanes + (p * kTileCols + q) * step);
      }
    } else {
      FloatVector row[kTileCols];
      for (std::int64_t q = 0; q < kTileCols; ++q) {
        row[q] = q < kCols ? sums[p][q] : hn::Zero(d);
      }
      AddSums(row, gram + p * size);
    }
  }
}

template <bool kHeld, int kCols>
HWY_INLINE void AddGramTileAt(const float* const* left,
                              const float* const* right, std::int64_t offset,
                              std::int64_t count, float* lanes,
                              std::int64_t size, double* gram) {
  if (offset == 0) {
    AddGramTile<kHeld, 0, kCols>(left, right, count, lanes, size, gram);
  } else if (offset < kTile) {
    AddGramTile<kHeld, kTileCols, kCols>(left, right, count, lanes, size, gram);
  } else {
    AddGramTile<kHeld, kTile, kCols>(left, right, count, lanes, size, gram);
  }
}

// Calls `visit(i, j, lanes of the tile or nullptr)` for each tile of `number`
// rows and columns that is not below the diagonal.
template <typename Visit>
HWY_INLINE void ForEachTile(std::int64_t number, float* lanes, Visit visit) {
  const auto step = static_cast<std::int64_t>(hn::Lanes(Floats()));
  for (std::int64_t i = 0; i < number; i += kTile) {
    for (std::int64_t j = i; j < number; j += kTileCols) {
      visit(i, j, lanes);
      lanes = lanes == nullptr ? nullptr : lanes + kTile * kTileCols * step;
    }
  }
}

template <bool kHeld>
void AddGramTiles(const float* const* runs, std::int64_t number,
                  std::int64_t count, float* lanes, std::int64_t size,
                  double* gram) {
  ForEachTile(number, lanes, [=](std::int64_t i, std::int64_t j, float* own) {
    const float* const* const left = runs + i;
    const float* const* const right = runs + j;
    double* const at = gram + i * size + j;
    switch (std::min(kTileCols, number - j)) {
      case 1:
        AddGramTileAt<kHeld, 1>(left, right, j - i, count, own, size, at);
        break;
      case 2:
        AddGramTileAt<kHeld, 2>(left, right, j - i, count, own, size, at);
        break;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
      case 3:
        AddGramTileAt<kHeld, 3>(left, right, j - i, count, own, size, at);
        break;
      default:
        AddGramTileAt<kHeld, 4>(left, right, j - i, count, own, size, at);
#endif
    }
  });
}

void AddGramBlock(const float* const* runs, std::int64_t number,
                  std::int64_t count, float* lanes, std::int64_t size,
                  double* gram) {
  const auto add = lanes == nullptr ? AddGramTiles<false> : AddGramTiles<true>;
  add(runs, number, count, lanes, size, gram);
}

void MoveGramLanes(std::int64_t number, float* lanes, std::int64_t size,
                   double* gram) {
  const Floats d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  ForEachTile(number, lanes, [=](std::int64_t i, std::int64_t j, float* own) {
    for (std::int64_t p = 0; p < kTile; ++p) {
      FloatVector row[kTileCols];
      for (std::int64_t q = 0; q < kTileCols; ++q) {
        float* const at = own + (p * kTileCols + q) * step;
        row[q] = hn::LoadU(d, at);
        hn::StoreU(hn::Zero(d), d, at);
      }
      AddSums(row, gram + (i + p) * size + j);
    }
  });
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

struct FloatPair {
  FloatVector first;
  FloatVector second;
};

// Twice Lanes(d) elements, in an order that depends on T alone.
template <typename T>
HWY_INLINE FloatPair LoadPair(const Byte* data) {
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  if constexpr (std::is_same_v<T, hwy::bfloat16_t>) {
    // Even and odd elements: one operation each on the same bits.
    const Floats d;
    const hn::Repartition<std::uint32_t, Floats> words;
    const hn::Repartition<Byte, Floats> bytes;
    const auto both = hn::BitCast(words, hn::LoadU(bytes, data));
    return {hn::BitCast(d, hn::ShiftLeft<16>(both)),
            hn::BitCast(d, hn::And(both, hn::Set(words, 0xffff0000U)))};
  }
#endif
  const auto lanes = hn::Lanes(Floats());
  return {LoadWide<T>(data), LoadWide<T>(data + lanes * sizeof(T))};
}

// What a vector of coordinates is divided by, and whether the quick way to it
// is precise enough.
struct Deviation {
  FloatVector inverse;
  bool precise = false;
};

HWY_INLINE Deviation InverseDeviation(FloatVector sum, FloatVector squares,
                                      std::int64_t participants) {
  const Floats d;
  const FloatVector mean = hn::Mul(
      sum, hn::Set(d, 1.0F / static_cast<float>(participants)));
  // The first difference is 0, so this is at least 1/(N+1) of `squares`.
  const FloatVector spread = hn::NegMulAdd(sum, mean, squares);
  // Squares of tiny and of huge values leave the range; equal values and NaN
  // fall out as well.
  const auto usual =
      hn::And(hn::Gt(spread, hn::Set(d, 0x1p-90F)),
              hn::Lt(squares, hn::Set(d, 0x1p100F)));
  return {hn::Sqrt(hn::Div(
              hn::Set(d, static_cast<float>(participants - 1)), spread)),
          hn::AllTrue(d, usual)};
}

// 2 Lanes(d) coordinates that begin `offset` bytes after each source. What is
// written are differences from the first participant over the deviation: a
// shift that is common to all participants does not change a centred Gram.
//
// kHeld: the number of participants where their differences fit the registers,
// else 0; `participants` is used then.
template <typename T, int kHeld>
HWY_INLINE void StandardisePair(const void* const* sources, std::int64_t offset,
                                std::int64_t participants, std::int64_t ahead,
                                float* scratch, float* out,
                                std::int64_t stride) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto at = [=](std::int64_t n) {
    return static_cast<const Byte*>(sources[n]) + offset;
  };
  // Into the second-level cache: the first one is full of this run.
  __builtin_prefetch(at(0) + ahead, 0, 2);
  const FloatPair base = LoadPair<T>(at(0));
  FloatPair held[std::max(kHeld, 1)];
  FloatVector sum[2] = {hn::Zero(d), hn::Zero(d)};
  FloatVector squares[2] = {hn::Zero(d), hn::Zero(d)};
  for (std::int64_t n = 1; n < participants; ++n) {
    const FloatPair x = LoadPair<T>(at(n));
    __builtin_prefetch(at(n) + ahead, 0, 2);
    const FloatVector first = hn::Sub(x.first, base.first);
    const FloatVector second = hn::Sub(x.second, base.second);
    if constexpr (kHeld > 0) {
      held[n] = {first, second};
    }
    sum[0] = hn::Add(sum[0], first);
    sum[1] = hn::Add(sum[1], second);
    squares[0] = hn::MulAdd(first, first, squares[0]);
    squares[1] = hn::MulAdd(second, second, squares[1]);
  }
  const Deviation first = InverseDeviation(sum[0], squares[0], participants);
  const Deviation second = InverseDeviation(sum[1], squares[1], participants);
  if (HWY_LIKELY(first.precise && second.precise)) {
    for (std::int64_t n = 1; n < participants; ++n) {
      FloatPair x;
      if constexpr (kHeld > 0) {
        x = held[n];
      } else {
        x = LoadPair<T>(at(n));
        x = {hn::Sub(x.first, base.first), hn::Sub(x.second, base.second)};
      }
      float* const row = out + (n - 1) * stride;
      hn::StoreU(hn::Mul(x.first, first.inverse), d, row);
      hn::StoreU(hn::Mul(x.second, second.inverse), d, row + lanes);
    }
    return;
  }
  for (std::int64_t n = 0; n < participants; ++n) {
    const FloatPair x = LoadPair<T>(at(n));
    hn::StoreU(x.first, d, scratch + 2 * n * lanes);
    hn::StoreU(x.second, d, scratch + (2 * n + 1) * lanes);
  }
  StandardiseStrip(scratch, 2 * lanes, participants);
  StandardiseStrip(scratch + lanes, 2 * lanes, participants);
  for (std::int64_t n = 1; n < participants; ++n) {
    for (std::int64_t half = 0; half < 2 * lanes; half += lanes) {
      hn::StoreU(hn::Sub(hn::LoadU(d, scratch + 2 * n * lanes + half),
                         hn::LoadU(d, scratch + half)),
                 d, out + (n - 1) * stride + half);
    }
  }
}

template <typename T, int kHeld>
void StandardiseRun(const void* const* sources, std::int64_t number,
                    std::int64_t count, std::int64_t ahead, float* scratch,
                    float* out, std::int64_t stride) {
  const std::int64_t participants = kHeld > 0 ? kHeld : number;
  const auto step = 2 * static_cast<std::int64_t>(hn::Lanes(Floats()));
  const auto size = static_cast<std::int64_t>(sizeof(T));
  std::int64_t t = 0;
  for (; t + step <= count; t += step) {
    StandardisePair<T, kHeld>(sources, t * size, participants, ahead, scratch,
                              out + t, stride);
  }
  if (t < count) {
    // Padded with zeros, which agree.
    std::vector<Byte> tails(static_cast<std::size_t>(participants * step * size));
    std::vector<const void*> starts;
    for (std::int64_t n = 0; n < participants; ++n) {
      Byte* const tail = tails.data() + n * step * size;
      std::memcpy(tail, static_cast<const Byte*>(sources[n]) + t * size,
                  static_cast<std::size_t>((count - t) * size));
      starts.push_back(tail);
    }
    StandardisePair<T, kHeld>(starts.data(), 0, participants, 0, scratch,
                              out + t, stride);
    t += step;
  }
  for (std::int64_t n = 0; n + 1 < participants; ++n) {
    std::fill(out + n * stride + t,
              out + n * stride + std::max(t, RoundUp(count, 2 * kRunPadding)),
              0.0F);
  }
}

template <typename T>
void StandardiseOf(const void* const* sources, std::int64_t participants,
                   std::int64_t count, std::int64_t ahead, float* scratch,
                   float* out, std::int64_t stride) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  // Eight experts, alone or beside a dense or a shared one.
  if (participants == 8) {
    return StandardiseRun<T, 8>(sources, 8, count, ahead, scratch, out,
                                stride);
  }
  if (participants == 9) {
    return StandardiseRun<T, 9>(sources, 9, count, ahead, scratch, out,
                                stride);
  }
#endif
  StandardiseRun<T, 0>(sources, participants, count, ahead, scratch, out,
                       stride);
}

void Standardise(const void* const* sources, ElementType type,
                 std::int64_t participants, std::int64_t count,
                 std::int64_t ahead, float* scratch, float* out,
                 std::int64_t stride) {
  switch (type) {
    case ElementType::kBFloat16:
      return StandardiseOf<hwy::bfloat16_t>(sources, participants, count,
                                            ahead, scratch, out, stride);
    case ElementType::kFloat16:
      return StandardiseOf<hwy::float16_t>(sources, participants, count,
                                           ahead, scratch, out, stride);
    default:
      return StandardiseOf<float>(sources, participants, count, ahead, scratch,
                                  out, stride);
  }
}

void WidenRun(const Byte* data, ElementType type, std::int64_t count,
              std::int64_t ahead, float* out) {
  switch (type) {
    case ElementType::kBFloat16:
      return WidenRunOf<hwy::bfloat16_t>(data, count, ahead, out);
    case ElementType::kFloat16:
      return WidenRunOf<hwy::float16_t>(data, count, ahead, out);
    case ElementType::kFloat32:
      return WidenRunOf<float>(data, count, ahead, out);
    default:
      return;  // Quantised matrices come here widened.
  }
}

}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {
HWY_EXPORT(WidenRun);
HWY_EXPORT(AddGramBlock);
HWY_EXPORT(MoveGramLanes);
HWY_EXPORT(Standardise);
}  // namespace

namespace internal {

void WidenRun(const void* data, ElementType type, std::int64_t count,
              std::int64_t ahead, float* out) {
  HWY_DYNAMIC_DISPATCH(WidenRun)
  (static_cast<const std::uint8_t*>(data), type, count, ahead, out);
}

void AddGramBlock(absl::Span<const float* const> runs, std::int64_t count,
                  float* lanes, std::int64_t size, double* gram) {
  HWY_DYNAMIC_DISPATCH(AddGramBlock)
  (runs.data(), static_cast<std::int64_t>(runs.size()), count, lanes, size,
   gram);
}

void MoveGramLanes(std::int64_t number, float* lanes, std::int64_t size,
                   double* gram) {
  HWY_DYNAMIC_DISPATCH(MoveGramLanes)(number, lanes, size, gram);
}

void Standardise(absl::Span<const void* const> sources, ElementType type,
                 std::int64_t count, std::int64_t ahead, float* scratch,
                 float* out, std::int64_t stride) {
  HWY_DYNAMIC_DISPATCH(Standardise)
  (sources.data(), type, static_cast<std::int64_t>(sources.size()), count, ahead,
   scratch, out, stride);
}

}  // namespace internal
}  // namespace moescope::numerics
#endif  // HWY_ONCE
