#include "server/numerics/gram_kernels_internal.h"

#include <algorithm>

#include "server/numerics/native_bfloat16_internal.h"

#if defined(__x86_64__)

namespace moescope::numerics::internal {
namespace {

constexpr std::int64_t kLanes = 32;  // bf16 numbers in a vector

using Run = const std::uint16_t*;

MOESCOPE_BF16_TARGET inline __m512bh Load(Run run, __mmask32 mask) {
  return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, run));
}

MOESCOPE_BF16_TARGET inline __m512bh LoadFull(Run run) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(run));
}

// a0 b0 a1 b1 and a2 b2 a3 b3 of every 128 bits. The intrinsics warn of an
// uninitialised operand (GCC 12).
MOESCOPE_BF16_TARGET inline __m512 LowPairs(__m512 a, __m512 b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25,
                                 12, 28, 13, 29);
}

MOESCOPE_BF16_TARGET inline __m512 HighPairs(__m512 a, __m512 b) {
  return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11,
                                 27, 14, 30, 15, 31);
}

// Adds the sums of the lanes of four vectors to out[0 … 4), by transposing:
// all four at once, per 128 bits first.
MOESCOPE_BF16_TARGET inline void AddSums(const __m512* sums,
                                         double* out) {
  const __m512 ab = LowPairs(sums[0], sums[1]) + HighPairs(sums[0], sums[1]);
  const __m512 cd = LowPairs(sums[2], sums[3]) + HighPairs(sums[2], sums[3]);
  const __m512 blocks =
      __builtin_shufflevector(ab, cd, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25,
                              12, 13, 28, 29) +
      __builtin_shufflevector(ab, cd, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27,
                              14, 15, 30, 31);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, blocks);
  for (std::int64_t q = 0; q < kTile; ++q) {
    out[q] += static_cast<double>((lanes[q] + lanes[q + 4]) +
                                  (lanes[q + 8] + lanes[q + 12]));
  }
}

// Vectors of the sums of a tile.
constexpr std::int64_t kTileLanes = kTile * kTile * 16;

// On the diagonal, what lies below it is left out. kHeld: the sums begin in
// `lanes` and stay there.
template <bool kDiagonal, bool kHeld>
MOESCOPE_BF16_TARGET void AddTile(const void* const* left,
                                  const void* const* right, std::int64_t count,
                                  std::int64_t ahead, float* lanes,
                                  std::int64_t size, double* gram) {
  __m512 sums[kTile][kTile];
  for (std::int64_t p = 0; p < kTile; ++p) {
    for (std::int64_t q = 0; q < kTile; ++q) {
      sums[p][q] = kHeld ? _mm512_loadu_ps(lanes + (p * kTile + q) * 16)
                         : _mm512_setzero_ps();
    }
  }
  Run x[kTile];
  Run y[kTile];
  for (std::int64_t p = 0; p < kTile; ++p) {
    x[p] = static_cast<Run>(left[p]);
    y[p] = static_cast<Run>(right[p]);
  }
  std::int64_t t = 0;
  for (; t + kLanes <= count; t += kLanes) {
    __m512bh a[kTile];
    for (std::int64_t p = 0; p < kTile; ++p) {
      a[p] = LoadFull(x[p] + t);
      if (kDiagonal && ahead > 0) {
        // On the diagonal every run is met once.
        _mm_prefetch(reinterpret_cast<const char*>(x[p] + t) + ahead,
                     _MM_HINT_T1);
      }
    }
    __m512bh b[kTile];
    for (std::int64_t q = 0; q < kTile; ++q) {
      b[q] = kDiagonal ? a[q] : LoadFull(y[q] + t);
    }
    for (std::int64_t q = 0; q < kTile; ++q) {
      for (std::int64_t p = 0; p < kTile; ++p) {
        if (!kDiagonal || p <= q) {
          sums[p][q] = _mm512_dpbf16_ps(sums[p][q], a[p], b[q]);
        }
      }
    }
  }
  if (t < count) {
    const auto mask = static_cast<__mmask32>((1U << (count - t)) - 1U);
    for (std::int64_t p = 0; p < kTile; ++p) {
      const __m512bh a = Load(x[p] + t, mask);
      for (std::int64_t q = 0; q < kTile; ++q) {
        sums[p][q] = _mm512_dpbf16_ps(sums[p][q], a, Load(y[q] + t, mask));
      }
    }
  }
  for (std::int64_t p = 0; p < kTile; ++p) {
    if constexpr (kHeld) {
      for (std::int64_t q = 0; q < kTile; ++q) {
        _mm512_storeu_ps(lanes + (p * kTile + q) * 16, sums[p][q]);
      }
    } else {
      AddSums(sums[p], gram + p * size);
    }
  }
}

MOESCOPE_BF16_TARGET void MoveTileLanes(float* lanes, std::int64_t size,
                                        double* gram) {
  for (std::int64_t p = 0; p < kTile; ++p) {
    __m512 row[kTile];
    for (std::int64_t q = 0; q < kTile; ++q) {
      float* const at = lanes + (p * kTile + q) * 16;
      row[q] = _mm512_loadu_ps(at);
      _mm512_storeu_ps(at, _mm512_setzero_ps());
    }
    AddSums(row, gram + p * size);
  }
}

MOESCOPE_BF16_TARGET inline double Sum(__m512 v) {
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, v);
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      lanes[i] += lanes[i + half];
    }
  }
  return static_cast<double>(lanes[0]);
}

// Elements of a row whose sum is kept in fp32, as many sums as a vector has
// lanes.
constexpr std::int64_t kSegment = 1024;

// The columns of two rows in pairs: a0 b0 a1 b1 a2 b2 a3 b3 of every 128 bits, and
// a4 b4 … a7 b7.
MOESCOPE_BF16_TARGET inline __m512bh LowColumns(__m512bh a, __m512bh b) {
  return reinterpret_cast<__m512bh>(_mm512_unpacklo_epi16(
      reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
MOESCOPE_BF16_TARGET inline __m512bh HighColumns(__m512bh a, __m512bh b) {
  return reinterpret_cast<__m512bh>(_mm512_unpackhi_epi16(
      reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}

// kRows rows, one or an even number, of 32 columns or of those that `mask`
// selects: adds to sums[] Σ x² and to columns[] Σ x, or the other way round.
template <bool kRowSquares, int kRows, bool kWhole>
MOESCOPE_BF16_TARGET inline void AddStep(Run data, std::int64_t row_stride,
                                         __mmask32 mask, float* columns,
                                         __m512* sums) {
  const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  const auto first_mask = static_cast<__mmask16>(mask);
  const auto second_mask = static_cast<__mmask16>(mask >> 16U);
  const __m512 first = kWhole ? _mm512_loadu_ps(columns)
                              : _mm512_maskz_loadu_ps(first_mask, columns);
  const __m512 second =
      kWhole ? _mm512_loadu_ps(columns + 16)
             : _mm512_maskz_loadu_ps(second_mask, columns + 16);
  // In the order of LowColumns and HighColumns.
  __m512 low = __builtin_shufflevector(first, second, 0, 1, 2, 3, 8, 9, 10, 11,
                                       16, 17, 18, 19, 24, 25, 26, 27);
  __m512 high = __builtin_shufflevector(first, second, 4, 5, 6, 7, 12, 13, 14,
                                        15, 20, 21, 22, 23, 28, 29, 30, 31);
  for (int r = 0; r < kRows; r += 2) {
    __m512bh x[2];
    for (int k = 0; k < 2; ++k) {
      if (r + k == kRows) {
        x[k] = reinterpret_cast<__m512bh>(_mm512_setzero_si512());
        break;
      }
      const Run row = data + (r + k) * row_stride;
      x[k] = kWhole ? LoadFull(row) : Load(row, mask);
      sums[r + k] =
          _mm512_dpbf16_ps(sums[r + k], x[k], kRowSquares ? x[k] : ones);
    }
    const __m512bh lows = LowColumns(x[0], x[1]);
    const __m512bh highs = HighColumns(x[0], x[1]);
    low = _mm512_dpbf16_ps(low, lows, kRowSquares ? ones : lows);
    high = _mm512_dpbf16_ps(high, highs, kRowSquares ? ones : highs);
  }
  const __m512 first_sums =
      __builtin_shufflevector(low, high, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7,
                              20, 21, 22, 23);
  const __m512 second_sums =
      __builtin_shufflevector(low, high, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13,
                              14, 15, 28, 29, 30, 31);
  if constexpr (kWhole) {
    _mm512_storeu_ps(columns, first_sums);
    _mm512_storeu_ps(columns + 16, second_sums);
  } else {
    _mm512_mask_storeu_ps(columns, first_mask, first_sums);
    _mm512_mask_storeu_ps(columns + 16, second_mask, second_sums);
  }
}

template <bool kRowSquares, int kRows>
MOESCOPE_BF16_TARGET void AddStrip(Run data, std::int64_t row_stride,
                                   std::int64_t cols, float* columns,
                                   double* rows) {
  for (std::int64_t begin = 0; begin < cols; begin += kSegment) {
    const std::int64_t end = std::min(cols, begin + kSegment);
    __m512 sums[kRows];
    for (__m512& sum : sums) {
      sum = _mm512_setzero_ps();
    }
    std::int64_t c = begin;
    for (; c + kLanes <= end; c += kLanes) {
      AddStep<kRowSquares, kRows, true>(data + c, row_stride, 0, columns + c,
                                        sums);
    }
    if (c < end) {
      AddStep<kRowSquares, kRows, false>(
          data + c, row_stride, static_cast<__mmask32>((1U << (end - c)) - 1U),
          columns + c, sums);
    }
    if constexpr (kRows % kTile == 0) {
      for (int r = 0; r < kRows; r += kTile) {
        AddSums(sums + r, rows + r);
      }
    } else {
      for (int r = 0; r < kRows; ++r) {
        rows[r] += Sum(sums[r]);
      }
    }
  }
}

template <bool kRowSquares>
void AddBothSides(const MatrixView& block, float* columns, double* rows) {
  constexpr int kStrip = 8;
  const Run data = static_cast<Run>(block.data);
  std::int64_t row = 0;
  for (; row + kStrip <= block.rows; row += kStrip) {
    AddStrip<kRowSquares, kStrip>(data + row * block.row_stride,
                                  block.row_stride, block.cols, columns,
                                  rows + row);
  }
  for (; row < block.rows; ++row) {
    AddStrip<kRowSquares, 1>(data + row * block.row_stride, block.row_stride,
                             block.cols, columns, rows + row);
  }
}

}  // namespace

void AddRowSquaresAndColumnSumsNativeBFloat16(const MatrixView& block,
                                              float* columns, double* rows) {
  AddBothSides<true>(block, columns, rows);
}

void AddRowSumsAndColumnSquaresNativeBFloat16(const MatrixView& block,
                                              float* columns, double* rows) {
  AddBothSides<false>(block, columns, rows);
}

void AddGramBlockNativeBFloat16(absl::Span<const void* const> runs,
                                std::int64_t count, std::int64_t ahead,
                                float* lanes, double* gram) {
  const bool held = lanes != nullptr;
  const auto on_diagonal = held ? AddTile<true, true> : AddTile<true, false>;
  const auto beside = held ? AddTile<false, true> : AddTile<false, false>;
  const auto size = static_cast<std::int64_t>(runs.size());
  for (std::int64_t i = 0; i < size; i += kTile) {
    for (std::int64_t j = i; j < size; j += kTile) {
      const auto add = i == j ? on_diagonal : beside;
      add(runs.data() + i, runs.data() + j, count, ahead, lanes, size,
          gram + i * size + j);
      lanes = held ? lanes + kTileLanes : nullptr;
    }
  }
}

void MoveGramLanesNativeBFloat16(std::int64_t number, float* lanes,
                                 double* gram) {
  for (std::int64_t i = 0; i < number; i += kTile) {
    for (std::int64_t j = i; j < number; j += kTile) {
      MoveTileLanes(lanes, number, gram + i * number + j);
      lanes += kTileLanes;
    }
  }
}

}  // namespace moescope::numerics::internal

#else

namespace moescope::numerics::internal {

// UseNativeBFloat16 is false here; nobody calls these.
void AddGramBlockNativeBFloat16(absl::Span<const void* const>, std::int64_t,
                                std::int64_t, float*, double*) {}
void MoveGramLanesNativeBFloat16(std::int64_t, float*, double*) {}
void AddRowSquaresAndColumnSumsNativeBFloat16(const MatrixView&, float*,
                                              double*) {}
void AddRowSumsAndColumnSquaresNativeBFloat16(const MatrixView&, float*,
                                              double*) {}

}  // namespace moescope::numerics::internal

#endif
