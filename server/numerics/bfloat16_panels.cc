#include "server/numerics/bfloat16_panels_internal.h"

#include <algorithm>
#include <limits>

#include "server/numerics/gram_kernels_internal.h"
#include "server/numerics/native_bfloat16_internal.h"

#if defined(__x86_64__)
namespace moescope::numerics::internal {
namespace {

using Half = std::uint16_t;
using Word = std::uint32_t;

// Pairs of depth turned round together; a panel has room for all of the last.
constexpr std::int64_t kTurned = kPairGroup;

MOESCOPE_BF16_TARGET inline __mmask32 FirstHalves(std::int64_t count) {
  return static_cast<__mmask32>(
      count >= 32 ? ~0U : (1U << std::max<std::int64_t>(count, 0)) - 1U);
}

MOESCOPE_BF16_TARGET inline __mmask16 FirstWords(std::int64_t count) {
  return static_cast<__mmask16>(
      count >= 16 ? 0xffffU : (1U << std::max<std::int64_t>(count, 0)) - 1U);
}

// 16 vectors of 16 words become columns of them, as a butterfly: in step s word
// groups of 2^s change places.
MOESCOPE_BF16_TARGET inline void Turn(__m512i (&v)[kTurned]) {
  __m512i t[kTurned];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512i a = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
    t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  std::copy_n(t, kTurned, v);
}

// Depth lies together: `count` numbers of `lines` lines, `stride` apart.
MOESCOPE_BF16_TARGET void PackAlong(const Half* data, std::int64_t stride,
                                    std::int64_t lines, std::int64_t count,
                                    Word* out) {
  for (std::int64_t d = 0; d < count; d += 2 * kTurned) {
    const __mmask32 mask = FirstHalves(count - d);
    __m512i v[kTurned];
    for (std::int64_t i = 0; i < kTurned; ++i) {
      v[i] = i < lines ? _mm512_maskz_loadu_epi16(mask, data + i * stride + d)
                       : _mm512_setzero_si512();
    }
    Turn(v);
    for (std::int64_t i = 0; i < kTurned; ++i) {
      _mm512_storeu_si512(out + (d / 2 + i) * kPanelLines, v[i]);
    }
  }
}

// Lines lie side by side: `count` rows, `stride` apart, of `lines` numbers, for
// panels `panel_stride` words apart.
MOESCOPE_BF16_TARGET void PackAcross(const Half* data, std::int64_t stride,
                                     std::int64_t lines, std::int64_t count,
                                     Word* out, std::int64_t panel_stride,
                                     std::int64_t panels) {
  for (std::int64_t d = 0; d < count; d += 2) {
    const Half* const even = data + d * stride;
    for (std::int64_t p = 0; p < panels; ++p) {
      const __mmask16 mask = FirstWords(lines - p * kPanelLines);
      const __m512i low = _mm512_cvtepu16_epi32(
          _mm256_maskz_loadu_epi16(mask, even + p * kPanelLines));
      const __m512i high =
          d + 1 < count ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(
                              mask, even + stride + p * kPanelLines))
                        : _mm512_setzero_si512();
      _mm512_storeu_si512(
          out + p * panel_stride + d / 2 * kPanelLines,
          _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
}

// Sums of 16 lines, the second eight in `above`.
struct Doubles {
  __m512d below;
  __m512d above;
};

MOESCOPE_BF16_TARGET inline Doubles Widen(__m512 x) {
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x)),
          _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}

struct RunningStatistics {
  Doubles sums;
  Doubles squares;
  __m512 low;
  __m512 high;
};

MOESCOPE_BF16_TARGET inline void AddNumbers(__m512i bits,
                                            RunningStatistics& running) {
  const __m512 x = _mm512_castsi512_ps(bits);
  const Doubles wide = Widen(x);
  running.sums.below += wide.below;
  running.sums.above += wide.above;
  running.squares.below += wide.below * wide.below;
  running.squares.above += wide.above * wide.above;
  running.low = x < running.low ? x : running.low;
  running.high = x > running.high ? x : running.high;
}

// Adds to `out` the products of 8 left lines, words 16 apart, and the first
// kPanels of three right panels.
template <int kPanels>
MOESCOPE_BF16_TARGET inline void AddRegisterTile(
    const Word* left, const Word* const (&right)[3], std::int64_t pairs,
    double* out, std::int64_t stride) {
  __m512 sums[kLeftLines][kPanels];
  for (auto& row : sums) {
    for (__m512& sum : row) {
      sum = _mm512_setzero_ps();
    }
  }
  for (std::int64_t p = 0; p < pairs * kPanelLines; p += kPanelLines) {
    __m512bh b[kPanels];
    for (int k = 0; k < kPanels; ++k) {
      b[k] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(right[k] + p));
    }
    for (std::int64_t i = 0; i < kLeftLines; ++i) {
      const auto a = reinterpret_cast<__m512bh>(
          _mm512_set1_epi32(static_cast<int>(left[p + i])));
      for (int k = 0; k < kPanels; ++k) {
        sums[i][k] = _mm512_dpbf16_ps(sums[i][k], a, b[k]);
      }
    }
  }
  for (std::int64_t i = 0; i < kLeftLines; ++i) {
    for (int k = 0; k < kPanels; ++k) {
      const Doubles wide = Widen(sums[i][k]);
      double* const at = out + i * stride + k * kPanelLines;
      _mm512_storeu_pd(at, _mm512_loadu_pd(at) + wide.below);
      _mm512_storeu_pd(at + 8, _mm512_loadu_pd(at + 8) + wide.above);
    }
  }
}

MOESCOPE_BF16_TARGET void Store(const RunningStatistics& running,
                                PanelStatistics& out) {
  _mm512_storeu_pd(out.sums, running.sums.below);
  _mm512_storeu_pd(out.sums + 8, running.sums.above);
  _mm512_storeu_pd(out.squares, running.squares.below);
  _mm512_storeu_pd(out.squares + 8, running.squares.above);
  _mm512_storeu_ps(out.low, running.low);
  _mm512_storeu_ps(out.high, running.high);
}

MOESCOPE_BF16_TARGET PanelStatistics Gather(const BFloat16Panels& panels,
                                            std::int64_t panel) {
  const __m512i high_half = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
  const __m512d zero = _mm512_setzero_pd();
  RunningStatistics running = {
      {zero, zero},
      {zero, zero},
      _mm512_set1_ps(std::numeric_limits<float>::infinity()),
      _mm512_set1_ps(-std::numeric_limits<float>::infinity())};
  for (std::int64_t block = 0; block < panels.num_blocks(); ++block) {
    const Word* const words = panels.PanelOf(block, panel);
    const std::int64_t count =
        std::min(kDepthBlock, panels.depth() - block * kDepthBlock);
    for (std::int64_t d = 0; d < count; d += 2) {
      const __m512i pair = _mm512_loadu_si512(words + d / 2 * kPanelLines);
      AddNumbers(_mm512_slli_epi32(pair, 16), running);
      if (d + 1 < count) {
        AddNumbers(_mm512_and_si512(pair, high_half), running);
      }
    }
  }
  PanelStatistics out;
  Store(running, out);
  return out;
}

MOESCOPE_BF16_TARGET void ScaleRun(const double* products, std::int64_t count,
                                   double left, const double* right, bool add,
                                   float* out) {
  std::int64_t j = 0;
  for (; j + 8 <= count; j += 8) {
    const __m256 cosines = _mm512_cvtpd_ps(
        _mm512_loadu_pd(products + j) * (left * _mm512_loadu_pd(right + j)));
    _mm256_storeu_ps(out + j,
                     add ? _mm256_loadu_ps(out + j) + cosines : cosines);
  }
  for (; j < count; ++j) {
    const auto cosine = static_cast<float>(products[j] * (left * right[j]));
    out[j] = add ? out[j] + cosine : cosine;
  }
}

MOESCOPE_BF16_TARGET inline void AddSquares(__m512i bits, Doubles& squares) {
  const Doubles wide = Widen(_mm512_castsi512_ps(bits));
  squares.below += wide.below * wide.below;
  squares.above += wide.above * wide.above;
}

MOESCOPE_BF16_TARGET std::array<double, kPanelLines> GatherSquares(
    const BFloat16Panels& panels, std::int64_t panel) {
  const __m512i high_half = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
  // Of both numbers of a pair apart: additions wait less for each other.
  Doubles even = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  Doubles odd = even;
  for (std::int64_t block = 0; block < panels.num_blocks(); ++block) {
    const Word* const words = panels.PanelOf(block, panel);
    // Behind an odd depth stands a zero.
    for (std::int64_t p = 0; p < panels.PairsOf(block); ++p) {
      const __m512i pair = _mm512_loadu_si512(words + p * kPanelLines);
      AddSquares(_mm512_slli_epi32(pair, 16), even);
      AddSquares(_mm512_and_si512(pair, high_half), odd);
    }
  }
  std::array<double, kPanelLines> squares;
  _mm512_storeu_pd(squares.data(), even.below + odd.below);
  _mm512_storeu_pd(squares.data() + 8, even.above + odd.above);
  return squares;
}

}  // namespace

PanelStatistics BFloat16Panels::StatisticsOf(std::int64_t panel) const {
  return Gather(*this, panel);
}

std::array<double, kPanelLines> BFloat16Panels::SquaresOf(
    std::int64_t panel) const {
  return GatherSquares(*this, panel);
}

void BFloat16Panels::Pack(const MatrixView& view, const MatrixBlock& block,
                          std::int64_t first, std::int64_t count) {
  const std::int64_t line = first * kPanelLines;
  const auto* const data = static_cast<const Half*>(view.data) +
                           (block.row + line) * view.row_stride +
                           block.col * view.col_stride;
  for (std::int64_t b = 0; b < num_blocks(); ++b) {
    const std::int64_t depth = std::min(kDepthBlock, depth_ - b * kDepthBlock);
    const Half* const from = data + b * kDepthBlock * view.col_stride;
    Word* const to = words_.get() + Offset(b, first);
    const std::int64_t panel_stride = Offset(b, first + 1) - Offset(b, first);
    if (view.col_stride == 1) {
      for (std::int64_t p = 0; p < count; ++p) {
        PackAlong(from + p * kPanelLines * view.row_stride, view.row_stride,
                  std::clamp<std::int64_t>(block.rows - line - p * kPanelLines,
                                           0, kPanelLines),
                  depth, to + p * panel_stride);
      }
    } else {
      PackAcross(from, view.col_stride, block.rows - line, depth, to,
                 panel_stride, count);
    }
  }
}

void MultiplyPanels(const BFloat16Panels& a, LineRange left,
                    const BFloat16Panels& b, LineRange right, bool upper,
                    double* out, std::int64_t stride) {
  for (std::int64_t i = 0; i < RoundUp(left.count, kLeftLines); ++i) {
    std::fill_n(out + i * stride, RoundUp(right.count, kRightLines), 0.0);
  }
  for (std::int64_t block = 0; block < a.num_blocks(); ++block) {
    const std::int64_t pairs = a.PairsOf(block);
    for (std::int64_t j = 0; j < right.count; j += kRightLines) {
      const std::int64_t panel = (right.first + j) / kPanelLines;
      const Word* const three[3] = {b.PanelOf(block, panel),
                                    b.PanelOf(block, panel + 1),
                                    b.PanelOf(block, panel + 2)};
      // Panels of padding alone have the product 0, which is there.
      const auto multiply = right.count - j > 2 * kPanelLines
                                ? AddRegisterTile<3>
                            : right.count - j > kPanelLines
                                ? AddRegisterTile<2>
                                : AddRegisterTile<1>;
      for (std::int64_t i = 0; i < left.count; i += kLeftLines) {
        const std::int64_t line = left.first + i;
        if (upper && right.first + j + kRightLines <= line) {
          continue;
        }
        multiply(a.PanelOf(block, line / kPanelLines) + line % kPanelLines,
                 three, pairs, out + i * stride + j, stride);
      }
    }
  }
}

void ScaleProducts(const double* products, std::int64_t count, double left,
                   const double* right, bool add, float* out) {
  ScaleRun(products, count, left, right, add, out);
}

}  // namespace moescope::numerics::internal

#else

namespace moescope::numerics::internal {

// Nobody calls these here.
PanelStatistics BFloat16Panels::StatisticsOf(std::int64_t) const { return {}; }
std::array<double, kPanelLines> BFloat16Panels::SquaresOf(std::int64_t) const {
  return {};
}
void BFloat16Panels::Pack(const MatrixView&, const MatrixBlock&, std::int64_t,
                          std::int64_t) {}
void MultiplyPanels(const BFloat16Panels&, LineRange, const BFloat16Panels&,
                    LineRange, bool, double*, std::int64_t) {}
void ScaleProducts(const double*, std::int64_t, double, const double*, bool,
                   float*) {}

}  // namespace moescope::numerics::internal

#endif

namespace moescope::numerics::internal {

void BFloat16Panels::Resize(std::int64_t lines, std::int64_t depth) {
  panels_ = RoundUp(lines, kRightLines) / kPanelLines;
  depth_ = depth;
  const auto needed = static_cast<std::size_t>(Offset(num_blocks(), 0));
  if (needed > capacity_) {
    words_.reset();
    words_.reset(new std::uint32_t[needed]);
    capacity_ = needed;
  }
}

std::int64_t BFloat16Panels::PairsOf(std::int64_t block) const {
  return (std::min(kDepthBlock, depth_ - block * kDepthBlock) + 1) / 2;
}

// All blocks but the last are full; room is for whole groups of kPairGroup.
std::int64_t BFloat16Panels::Offset(std::int64_t block,
                                    std::int64_t panel) const {
  const std::int64_t full = std::min(block, depth_ / kDepthBlock);
  const std::int64_t before = full * kDepthBlock / 2 * kPanelLines * panels_;
  const auto room = [&](std::int64_t b) {
    return RoundUp(PairsOf(b), kPairGroup) * kPanelLines;
  };
  const std::int64_t partial = block > full ? room(full) * panels_ : 0;
  return before + partial + (panel > 0 ? panel * room(block) : 0);
}

const std::uint32_t* BFloat16Panels::PanelOf(std::int64_t block,
                                             std::int64_t panel) const {
  return words_.get() + Offset(block, panel);
}

}  // namespace moescope::numerics::internal
