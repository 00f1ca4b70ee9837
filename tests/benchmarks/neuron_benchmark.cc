#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/assignment.h"
#include "moescope/numerics/gemm_probe.h"
#include "moescope/numerics/neuron_cosine.h"
#include "moescope/numerics/principal_components.h"
#include "moescope/numerics/widen_rows.h"

// Kernels that work on neurons, on one core. FLOP/s stands beside gemm_share,
// its share of this core's rate of fp32 products through the BLAS library (bf16
// products may exceed it), and bytes_per_second beside copy_share, its share of
// the rate at which this core copies memory; both are measured at start.
namespace moescope::numerics {
namespace {

double GemmRate() {
  static const double rate = MeasureGemmGflops().value_or(0) * 1e9;
  return rate;
}

// Bytes read and written per second by a copy that no cache holds.
double CopyRate() {
  static const double rate = [] {
    constexpr std::size_t kBytes = 64 << 20;
    const std::vector<char> from(kBytes, 1);
    std::vector<char> to(kBytes, 0);
    double best = 0;
    for (int i = 0; i < 5; ++i) {
      const absl::Time start = absl::Now();
      std::memcpy(to.data(), from.data(), kBytes);
      benchmark::DoNotOptimize(to.data());
      benchmark::ClobberMemory();
      best = std::max(best, 2.0 * kBytes /
                                absl::ToDoubleSeconds(absl::Now() - start));
    }
    return best;
  }();
  return rate;
}

void Count(benchmark::State& state, double flops, double bytes) {
  using benchmark::Counter;
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(bytes));
  state.counters["copy_share"] =
      Counter(bytes / CopyRate(), Counter::kIsIterationInvariantRate);
  if (flops > 0) {
    state.counters["FLOP/s"] =
        Counter(flops, Counter::kIsIterationInvariantRate);
    state.counters["gemm_share"] =
        Counter(flops / GemmRate(), Counter::kIsIterationInvariantRate);
  }
}

// Gaussian weights in bf16.
class Weights {
 public:
  Weights(std::int64_t matrices, std::int64_t rows, std::int64_t cols) {
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal(0.0F, 0.02F);
    for (std::int64_t m = 0; m < matrices; ++m) {
      memory_.emplace_back(static_cast<std::size_t>(rows * cols));
      for (std::uint16_t& value : memory_.back()) {
        const float drawn = normal(random);
        std::uint32_t bits = 0;
        std::memcpy(&bits, &drawn, sizeof bits);
        value = static_cast<std::uint16_t>(bits >> 16);
      }
      views_.push_back({memory_.back().data(), ElementType::kBFloat16, rows,
                        cols, cols});
    }
  }
  const std::vector<MatrixView>& views() const { return views_; }
  // Neurons are the rows, as in gate_proj, or the columns, as in down_proj.
  NeuronPair pair(bool columns) const {
    return columns
               ? NeuronPair{Transposed(views_[0]), Transposed(views_[1])}
               : NeuronPair{views_[0], views_[1]};
  }

 private:
  std::vector<std::vector<std::uint16_t>> memory_;
  std::vector<MatrixView> views_;
};

Weights PairOf(std::int64_t neurons, std::int64_t width, bool columns) {
  return columns ? Weights(2, width, neurons) : Weights(2, neurons, width);
}

// Arguments of the first three: neurons, width, whether they are columns,
// threads.

void CosineMatrix(benchmark::State& state) {
  const auto n = static_cast<double>(state.range(0));
  const auto d = static_cast<double>(state.range(1));
  const bool columns = state.range(2) != 0;
  const Weights weights = PairOf(state.range(0), state.range(1), columns);
  SimilarityMatrix matrix;
  ThreadPool pool(static_cast<int>(state.range(3)));
  for (auto _ : state) {
    if (!FillCosines({weights.pair(columns)}, pool, RunContext(), matrix).ok()) {
      state.SkipWithError("no cosines");
      return;
    }
  }
  Count(state, 2 * n * n * d, 4 * n * d + 4 * n * n);
}

void Comparing(benchmark::State& state) {
  const auto n = static_cast<double>(state.range(0));
  const auto d = static_cast<double>(state.range(1));
  const bool columns = state.range(2) != 0;
  const Weights weights = PairOf(state.range(0), state.range(1), columns);
  std::vector<std::int64_t> order(static_cast<std::size_t>(state.range(0)));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
  ThreadPool pool(static_cast<int>(state.range(3)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        CompareMatched(weights.pair(columns), order, pool, RunContext()));
  }
  Count(state, 8 * n * d, 4 * n * d);
}

// A pair from weights to flattened cosines.
void Matching(benchmark::State& state) {
  const auto n = static_cast<double>(state.range(0));
  const auto d = static_cast<double>(state.range(1));
  const bool columns = state.range(2) != 0;
  const Weights weights = PairOf(state.range(0), state.range(1), columns);
  const NeuronPair pair = weights.pair(columns);
  SimilarityMatrix matrix;
  ThreadPool pool(static_cast<int>(state.range(3)));
  for (auto _ : state) {
    if (!FillCosines({pair}, pool, RunContext(), matrix).ok()) {
      state.SkipWithError("no cosines");
      return;
    }
    const auto found = SolveAssignment(matrix, pool, RunContext());
    if (!found.ok() || found->gap != 0) {
      state.SkipWithError("not proven optimal");
      return;
    }
    benchmark::DoNotOptimize(KendallTauToIdentity(found->permutation));
    benchmark::DoNotOptimize(
        CompareMatched(pair, found->permutation, pool, RunContext()));
  }
  Count(state, 2 * n * n * d, 8 * n * d + 4 * n * n);
}

// Similarities that are hard in different ways: unrelated, one direction that
// all neurons share with some noise, and that direction alone.
enum Kind { kUnrelated, kDominant, kRankOne };

void FillSimilarities(Kind kind, SimilarityMatrix& matrix) {
  const std::int64_t n = matrix.size();
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> columns(static_cast<std::size_t>(n));
  for (float& load : columns) {
    load = 0.3F * std::fabs(normal(random));
  }
  std::vector<float> row(columns.size());
  for (std::int64_t i = 0; i < n; ++i) {
    const float load =
        kind == kUnrelated ? 0.0F : 0.3F * std::fabs(normal(random));
    for (std::size_t j = 0; j < row.size(); ++j) {
      const float noise = kind == kRankOne ? 0.0F : 0.02F * normal(random);
      row[j] = load * columns[j] + noise;
    }
    const absl::Status set =
        matrix.Set(i, 0, {row.data(), ElementType::kFloat32, 1, n, n});
    benchmark::DoNotOptimize(set);
  }
}

// Arguments: neurons, Kind, threads.
void Assigning(benchmark::State& state) {
  const auto n = static_cast<double>(state.range(0));
  SimilarityMatrix matrix;
  matrix.Resize(state.range(0));
  FillSimilarities(static_cast<Kind>(state.range(1)), matrix);
  ThreadPool pool(static_cast<int>(state.range(2)));
  for (auto _ : state) {
    const auto found = SolveAssignment(matrix, pool, RunContext());
    if (!found.ok() || found->gap != 0) {
      state.SkipWithError("not proven optimal");
      return;
    }
  }
  Count(state, 0, 4 * n * n);
}

// From a cancellation at 32 random moments of a solution to its return, the
// longest of these times in worst_ms. Arguments: neurons, Kind, threads.
void CancellingAssignment(benchmark::State& state) {
  constexpr int kMoments = 32;
  SimilarityMatrix matrix;
  matrix.Resize(state.range(0));
  FillSimilarities(static_cast<Kind>(state.range(1)), matrix);
  ThreadPool pool(static_cast<int>(state.range(2)));
  const absl::Time start = absl::Now();
  if (!SolveAssignment(matrix, pool, RunContext()).ok()) {
    state.SkipWithError("not solved");
    return;
  }
  const double whole = absl::ToDoubleSeconds(absl::Now() - start);
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> moment(0, whole);
  double worst = 0;
  int cancelled = 0;
  for (auto _ : state) {
    for (int i = 0; i < kMoments; ++i) {
      const RunContext context;
      const absl::Duration after = absl::Seconds(moment(random));
      absl::Time asked = absl::InfiniteFuture();
      std::thread canceller([&] {
        absl::SleepFor(after);
        asked = absl::Now();
        context.token().Cancel(absl::CancelledError("enough"));
      });
      const bool solved = SolveAssignment(matrix, pool, context).ok();
      const absl::Time returned = absl::Now();
      canceller.join();
      // What ends before it is cancelled says nothing.
      if (!solved) {
        ++cancelled;
        worst = std::max(worst, absl::ToDoubleSeconds(returned - asked));
      }
    }
  }
  state.counters["worst_ms"] = 1e3 * worst;
  state.counters["cancelled"] = cancelled;
}

// Covariance, its leading eigenvectors and the scores. Arguments: neurons in 8
// matrices, width, threads.
void NeuronPca(benchmark::State& state) {
  const auto n = static_cast<double>(state.range(0));
  const auto d = static_cast<double>(state.range(1));
  const Weights weights(8, state.range(0) / 8, state.range(1));
  ThreadPool pool(static_cast<int>(state.range(2)));
  for (auto _ : state) {
    if (!ComputeNeuronComponents(weights.views(), NeuronAxis::kRows, 2, pool,
                                 RunContext())
             .ok()) {
      state.SkipWithError("no components");
      return;
    }
  }
  // Half of the products: the covariance is symmetric.
  Count(state, n * d * d, 4 * n * d);
}

// Codes of eight bits to fp32, as before every product. Arguments: rows, width.
void Dequantise(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const std::int64_t cols = state.range(1);
  constexpr std::int64_t kBlock = 128;
  const std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * cols),
                                        0x31);
  const std::vector<float> scales(
      static_cast<std::size_t>((rows / kBlock) * (cols / kBlock)), 0.5F);
  MatrixView view = {codes.data(), ElementType::kFloat8E4M3, rows, cols, cols};
  view.scales.data = scales.data();
  view.scales.block_rows = view.scales.block_cols = kBlock;
  view.scales.row_stride = cols / kBlock;
  constexpr std::int64_t kRows = 64;
  std::vector<float> out(static_cast<std::size_t>(kRows * cols));
  for (auto _ : state) {
    for (std::int64_t r = 0; r < rows; r += kRows) {
      WidenRows(view, r, kRows, out.data());
      benchmark::DoNotOptimize(out.data());
    }
  }
  Count(state, 0, 5 * static_cast<double>(rows * cols));
}

BENCHMARK(CosineMatrix)
    ->ArgsProduct({{1408}, {2048}, {0, 1}, {1, 2}})
    ->Args({4096, 1024, 0, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(Comparing)
    ->ArgsProduct({{1408}, {2048}, {0, 1}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(Matching)
    ->ArgsProduct({{1408}, {2048}, {0, 1}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(Assigning)
    ->ArgsProduct({{1408, 4096}, {kUnrelated, kDominant, kRankOne}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(CancellingAssignment)
    ->ArgsProduct({{1408, 4096, 14336}, {kUnrelated, kDominant}, {1, 2}})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(NeuronPca)
    ->Args({16384, 1024, 1})
    ->Args({16384, 1024, 2})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(Dequantise)->Args({2048, 4096})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moescope::numerics
