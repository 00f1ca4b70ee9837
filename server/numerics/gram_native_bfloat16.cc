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

// By halves, in memory: the compiler's own reduction warns of an uninitialised
// operand (GCC 12).
MOESCOPE_BF16_TARGET inline double Sum(__m512 v) {
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, v);
  const __m256 half = _mm256_add_ps(_mm256_load_ps(lanes), _mm256_load_ps(lanes + 8));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half),
                                    _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return static_cast<double>(
      _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair))));
}

MOESCOPE_BF16_TARGET void AddTile(const void* const* left,
                                  const void* const* right, std::int64_t count,
                                  std::int64_t size, double* gram) {
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
    }
    for (std::int64_t q = 0; q < kTile; ++q) {
      const __m512bh b = LoadFull(y[q] + t);
      for (std::int64_t p = 0; p < kTile; ++p) {
        sums[p][q] = _mm512_dpbf16_ps(sums[p][q], a[p], b);
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
    for (std::int64_t q = 0; q < kTile; ++q) {
      gram[p * size + q] += Sum(sums[p][q]);
    }
  }
}

}  // namespace

void AddGramBlockNativeBFloat16(absl::Span<const void* const> runs,
                                std::int64_t count, double* gram) {
  const auto size = static_cast<std::int64_t>(runs.size());
  for (std::int64_t i = 0; i < size; i += kTile) {
    for (std::int64_t j = i; j < size; j += kTile) {
      AddTile(runs.data() + i, runs.data() + j, count, size,
              gram + i * size + j);
    }
  }
}

}  // namespace moescope::numerics::internal

#else

namespace moescope::numerics::internal {

// UseNativeBFloat16 is false here; nobody calls this.
void AddGramBlockNativeBFloat16(absl::Span<const void* const>, std::int64_t,
                                double*) {}

}  // namespace moescope::numerics::internal

#endif
