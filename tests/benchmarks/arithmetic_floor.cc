#include "tests/benchmarks/arithmetic_floor.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/numerics/native_bfloat16_internal.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/shapes.h"
#include "moescope/numerics/gram.h"
#include "moescope/numerics/instruction_set.h"

namespace moescope::benchmarks {
namespace {

using numerics::MatrixView;

// Of all participants together: half the second-level cache of current processors.
constexpr std::int64_t kCachedBytes = std::int64_t{512} << 10;
constexpr std::int64_t kCachedCols = 512;
constexpr std::int64_t kMinCachedRows = 8;
constexpr int kFloorRounds = 50;

bool SameReading(const SuiteReading& a, const SuiteReading& b) {
  return a.experts == b.experts && a.rows == b.rows && a.cols == b.cols &&
         a.type == b.type && a.down == b.down;
}

class CachedMatrices {
 public:
  explicit CachedMatrices(const SuiteReading& reading) {
    const std::int64_t size = numerics::ElementSize(reading.type);
    const std::int64_t cols = std::min(reading.cols, kCachedCols);
    const std::int64_t rows = std::min(
        reading.rows, std::max(kMinCachedRows,
                               kCachedBytes / (reading.experts * cols * size)));
    constexpr std::int64_t kLineWords = 32;
    // A cache line apart beyond their length: not all in the same sets.
    const std::int64_t words =
        (rows * cols * size / 2 / kLineWords + 2) * kLineWords;
    words_.resize(static_cast<std::size_t>(reading.experts * words));
    // Weights around 0.02 of random signs and mantissas, as bf16; other types
    // take no longer for other numbers of the normal range.
    std::uint32_t random = 1;
    for (std::uint16_t& word : words_) {
      random = random * 1664525U + 1013904223U;
      word = static_cast<std::uint16_t>(0x3c00U + ((random >> 16U) & 0x81ffU));
    }
    for (std::int64_t e = 0; e < reading.experts; ++e) {
      views_.push_back({words_.data() + e * words, reading.type, rows, cols, cols});
    }
  }
  const std::vector<MatrixView>& views() const { return views_; }
  double size() const { return static_cast<double>(views_[0].size()); }

 private:
  std::vector<std::uint16_t> words_;
  std::vector<MatrixView> views_;
};

// As static_suite asks (server/analysis/projection_reading.cc).
numerics::GramOptions OptionsOf(const SuiteReading& reading) {
  numerics::GramOptions options;
  options.standardised_gram = true;
  options.mean_row = options.row_norms = !reading.down;
  options.mean_column = options.column_norms = reading.down;
  return options;
}

struct MultiplyAdds {
  double bfloat16 = 0;
  double float32 = 0;
};

// Per coordinate: the products of all pairs, and of each weight with itself and
// with 1 for norms and means, of bf16; the products of all pairs of the N - 1
// differences, their squares and their scaling, of fp32.
MultiplyAdds CountMultiplyAdds(const std::vector<SuiteReading>& work) {
  MultiplyAdds total;
  for (const SuiteReading& reading : work) {
    const auto n = static_cast<double>(reading.experts);
    const double coordinates = static_cast<double>(reading.count) *
                               static_cast<double>(reading.rows) *
                               static_cast<double>(reading.cols);
    total.bfloat16 += coordinates * (n * (n + 1) / 2 + 2 * n);
    total.float32 += coordinates * (n * (n - 1) / 2 + 2 * (n - 1));
  }
  return total;
}

#if defined(__x86_64__)

// Enough independent sums to fill the pipeline.
constexpr int kSums = 12;
constexpr int kSteps = 2'000'000;

template <bool kBFloat16>
MOESCOPE_BF16_TARGET double PeakMultiplyAdds() {
  const __m512 factor = _mm512_set1_ps(0.5F);
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    __m512 a = factor, b = factor, c = factor, d = factor, e = factor, f = factor;
    __m512 g = factor, h = factor, i = factor, j = factor, k = factor, l = factor;
    const absl::Time started = absl::Now();
    for (int step = 0; step < kSteps; ++step) {
      const auto add = [factor](__m512& sum) MOESCOPE_BF16_TARGET {
        sum = kBFloat16
                  ? _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(factor),
                                     reinterpret_cast<__m512bh>(factor))
                  : _mm512_fmadd_ps(sum, factor, factor);
      };
      add(a), add(b), add(c), add(d), add(e), add(f);
      add(g), add(h), add(i), add(j), add(k), add(l);
      // In registers, and not shortened.
      asm volatile(""
                   : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f),
                     "+v"(g), "+v"(h), "+v"(i), "+v"(j), "+v"(k), "+v"(l));
    }
    const double seconds = absl::ToDoubleSeconds(absl::Now() - started);
    best = std::max(best, (kBFloat16 ? 32.0 : 16.0) * kSums * kSteps / seconds);
  }
  return best;
}

bool HasPeaks() {
  return numerics::KernelInstructionSet() == "avx512_bf16";
}

#else

template <bool kBFloat16>
double PeakMultiplyAdds() {
  return 0;
}

bool HasPeaks() { return false; }

#endif

}  // namespace

absl::StatusOr<std::vector<SuiteReading>> SuiteWork(
    const model::Checkpoint& checkpoint) {
  std::vector<SuiteReading> work;
  const model::ModelConfig& config = checkpoint.config();
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (!config.IsMoeLayer(layer)) {
      continue;
    }
    const auto expert = checkpoint.Expert(layer, 0);
    if (!expert.ok()) {
      return expert.status();
    }
    for (int p = 0; p < model::kNumProjections; ++p) {
      const auto projection = static_cast<model::Projection>(p);
      const MatrixView& view = (*expert)[projection];
      const SuiteReading reading = {
          1,         config.num_experts, view.rows, view.cols,
          view.type, projection == model::Projection::kDown};
      const auto same = std::find_if(
          work.begin(), work.end(),
          [&](const SuiteReading& other) { return SameReading(reading, other); });
      if (same == work.end()) {
        work.push_back(reading);
      } else {
        ++same->count;
      }
    }
  }
  return work;
}

absl::StatusOr<double> FloorSeconds(const std::vector<SuiteReading>& work,
                                    int threads) {
  ThreadPool pool(1);
  double total = 0;
  for (const SuiteReading& reading : work) {
    const CachedMatrices matrices(reading);
    double best = std::numeric_limits<double>::infinity();
    for (int round = 0; round < kFloorRounds; ++round) {
      const absl::Time started = absl::Now();
      const auto result = numerics::ComputeGram(
          matrices.views(), OptionsOf(reading), pool, RunContext());
      if (!result.ok()) {
        return result.status();
      }
      best = std::min(best, absl::ToDoubleSeconds(absl::Now() - started));
    }
    const double elements = static_cast<double>(reading.count) *
                            static_cast<double>(reading.rows) *
                            static_cast<double>(reading.cols);
    total += best * elements / matrices.size();
  }
  return total / threads;
}

std::string DescribePeaks(const std::vector<SuiteReading>& work, int threads) {
  const bool bfloat16 =
      std::all_of(work.begin(), work.end(), [](const SuiteReading& reading) {
        return reading.type == numerics::ElementType::kBFloat16;
      });
  if (!HasPeaks() || !bfloat16) {
    return "  peak rates are not measured here (they need AVX512_BF16 and bf16 "
           "weights)\n";
  }
  const MultiplyAdds count = CountMultiplyAdds(work);
  const double bf16 = PeakMultiplyAdds<true>();
  const double fp32 = PeakMultiplyAdds<false>();
  return absl::StrCat(
      "  multiply-adds alone ",
      (count.bfloat16 / bf16 + count.float32 / fp32) / threads, " s (",
      count.bfloat16 / 1e9, "e9 of bf16 at ", bf16 / 1e9, "e9/s, ",
      count.float32 / 1e9, "e9 of fp32 at ", fp32 / 1e9,
      "e9/s, per thread)\n");
}

}  // namespace moescope::benchmarks
