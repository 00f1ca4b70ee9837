#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/cosine.h"
#include "moescope/numerics/gram.h"

// Kernels that read every weight once, beside the rate at which this machine
// reads memory: bytes_per_second of Gram* against that of ReadMemory says how
// far from it they are. Arguments: participants, rows, columns, threads.
namespace moescope::numerics {
namespace {

class Weights {
 public:
  Weights(std::int64_t experts, std::int64_t rows, std::int64_t cols)
      : data_(static_cast<std::size_t>(experts * rows * cols)) {
    // Random signs and mantissas, exponents of weights around 0.02.
    std::mt19937_64 random(1);
    for (std::uint16_t& x : data_) {
      x = static_cast<std::uint16_t>(0x3c00U + (random() & 0x81ffU));
    }
    for (std::int64_t e = 0; e < experts; ++e) {
      views_.push_back({data_.data() + e * rows * cols, ElementType::kBFloat16,
                        rows, cols, cols});
    }
  }
  const std::vector<MatrixView>& views() const { return views_; }
  std::int64_t bytes() const {
    return static_cast<std::int64_t>(2 * data_.size());
  }

 private:
  std::vector<std::uint16_t> data_;
  std::vector<MatrixView> views_;
};

void RunGram(benchmark::State& state, const GramOptions& options, int grams) {
  const Weights weights(state.range(0), state.range(1), state.range(2));
  ThreadPool pool(static_cast<int>(state.range(3)));
  const RunContext context;
  for (auto _ : state) {
    auto result = ComputeGram(weights.views(), options, pool, context);
    if (!result.ok()) {
      state.SkipWithError(result.status().ToString().c_str());
      return;
    }
    benchmark::DoNotOptimize(result->nonfinite.data());
  }
  state.SetBytesProcessed(state.iterations() * weights.bytes());
  const double flops = static_cast<double>(weights.bytes() / 2) *
                       static_cast<double>((state.range(0) + 1) * grams);
  state.counters["FLOP/s"] = benchmark::Counter(
      flops, benchmark::Counter::kIsIterationInvariantRate);
}

void GramCosines(benchmark::State& state) { RunGram(state, {}, 1); }

void GramCosinesAndAverage(benchmark::State& state) {
  GramOptions options;
  options.mean_row = true;
  RunGram(state, options, 1);
}

void GramStandardised(benchmark::State& state) {
  GramOptions options;
  options.gram = false;
  options.standardised_gram = true;
  RunGram(state, options, 1);
}

// What the static suite asks of gate_proj and up_proj.
void GramSuiteRows(benchmark::State& state) {
  GramOptions options;
  options.standardised_gram = options.mean_row = options.row_norms = true;
  RunGram(state, options, 2);
}

// What it asks of down_proj.
void GramSuiteColumns(benchmark::State& state) {
  GramOptions options;
  options.standardised_gram = true;
  options.mean_column = options.column_norms = true;
  RunGram(state, options, 2);
}

// The rate of reading memory with as many threads; arguments as above.
void ReadMemory(benchmark::State& state) {
  const Weights weights(state.range(0), state.range(1), state.range(2));
  ThreadPool pool(static_cast<int>(state.range(3)));
  const auto* const words =
      static_cast<const std::uint64_t*>(weights.views()[0].data);
  constexpr std::int64_t kPart = 1 << 17;
  const std::int64_t parts = weights.bytes() / 8 / kPart;
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(parts));
  for (auto _ : state) {
    const absl::Status status = pool.ParallelFor(parts, [&](std::int64_t p) {
      std::uint64_t lanes[32] = {};
      for (std::int64_t i = p * kPart; i < (p + 1) * kPart; i += 32) {
        for (std::int64_t k = 0; k < 32; ++k) {
          lanes[k] ^= words[i + k];
        }
      }
      std::uint64_t sum = 0;
      for (const std::uint64_t lane : lanes) {
        sum ^= lane;
      }
      sums[static_cast<std::size_t>(p)] = sum;
      return absl::OkStatus();
    });
    benchmark::DoNotOptimize(status);
    benchmark::DoNotOptimize(sums.data());
  }
  state.SetBytesProcessed(state.iterations() * parts * kPart * 8);
}

// Router rows: experts, width.
void RouterCosines(benchmark::State& state) {
  const Weights weights(1, state.range(0), state.range(1));
  for (auto _ : state) {
    benchmark::DoNotOptimize(RowCosines(weights.views()[0]));
  }
  state.SetBytesProcessed(state.iterations() * weights.bytes());
}

void Shapes(benchmark::internal::Benchmark* bench) {
  bench->Unit(benchmark::kMillisecond)->UseRealTime();
  for (const int threads : {1, 2}) {
    bench->Args({8, 1024, 3584, threads});
    bench->Args({64, 256, 1408, threads});
    bench->Args({8, 4096, 4096, threads});
    bench->Args({64, 1408, 2048, threads});
  }
}

BENCHMARK(ReadMemory)->Apply(Shapes);
BENCHMARK(GramCosines)->Apply(Shapes);
BENCHMARK(GramCosinesAndAverage)->Apply(Shapes);
BENCHMARK(GramStandardised)->Apply(Shapes)->Args({9, 1024, 3584, 1});
BENCHMARK(GramSuiteRows)->Apply(Shapes);
BENCHMARK(GramSuiteColumns)->Apply(Shapes);
BENCHMARK(RouterCosines)
    ->Args({8, 4096})
    ->Args({64, 2048})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace moescope::numerics
