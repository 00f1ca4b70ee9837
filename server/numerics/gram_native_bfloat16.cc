#include "server/numerics/gram_kernels_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

// Highway 1.0 has no product of bf16 pairs; this is that one instruction.
#define MOESCOPE_BF16_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

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
MOESCOPE_BF16_TARGET inline void AddSums(const __m512 (&sums)[kTile],
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

// On the diagonal, what lies below it is left out.
template <bool kDiagonal>
MOESCOPE_BF16_TARGET void AddTile(const void* const* left,
                                  const void* const* right, std::int64_t count,
                                  bool ahead, std::int64_t size, double* gram) {
  __m512 sums[kTile][kTile];
  for (auto& row : sums) {
    for (__m512& sum : row) {
      sum = _mm512_setzero_ps();
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
      if (kDiagonal && ahead) {
        // The next run follows in memory; on the diagonal every run is met once.
        _mm_prefetch(reinterpret_cast<const char*>(x[p] + count + t),
                     _MM_HINT_T1);
      }
    }
    for (std::int64_t q = 0; q < kTile; ++q) {
      const __m512bh b = LoadFull(y[q] + t);
      for (std::int64_t p = 0; p < kTile; ++p) {
        if (!kDiagonal || p <= q) {
          sums[p][q] = _mm512_dpbf16_ps(sums[p][q], a[p], b);
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
    AddSums(sums[p], gram + p * size);
  }
}

}  // namespace

void AddGramBlockNativeBFloat16(absl::Span<const void* const> runs,
                                std::int64_t count, bool ahead, double* gram) {
  const auto size = static_cast<std::int64_t>(runs.size());
  for (std::int64_t i = 0; i < size; i += kTile) {
    for (std::int64_t j = i; j < size; j += kTile) {
      double* const at = gram + i * size + j;
      if (i == j) {
        AddTile<true>(runs.data() + i, runs.data() + j, count, ahead, size, at);
      } else {
        AddTile<false>(runs.data() + i, runs.data() + j, count, ahead, size, at);
      }
    }
  }
}

}  // namespace moescope::numerics::internal

#else

namespace moescope::numerics::internal {

// UseNativeBFloat16 is false here; nobody calls this.
void AddGramBlockNativeBFloat16(absl::Span<const void* const>, std::int64_t,
                                bool, double*) {}

}  // namespace moescope::numerics::internal

#endif
