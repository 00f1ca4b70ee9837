#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/effective_rank.h"
#include "server/numerics/symmetric_eigenvalues_internal.h"

// Effective rank and its eigenvalues, beside the library's. fp64_share and
// fp32_share are FLOP/s over the rate of one core's products of that type through
// the BLAS library, measured at start; to be run with OPENBLAS_NUM_THREADS=1 and
// OMP_NUM_THREADS=1.
namespace moescope::numerics {
namespace {

using internal::SymmetricTiles;

double GemmRate(at::ScalarType type) {
  constexpr std::int64_t kSize = 1024;
  const c10::NoGradGuard no_grad;
  const at::Tensor a = at::ones({kSize, kSize}, type);
  at::Tensor out = at::mm(a, a);
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    at::mm_out(out, a, a);
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * kSize * kSize * kSize / seconds.count());
  }
  return best;
}

void Count(benchmark::State& state, double flops) {
  static const double wide = GemmRate(at::kDouble);
  static const double narrow = GemmRate(at::kFloat);
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["FLOP/s"] = benchmark::Counter(flops, rate);
  state.counters["fp64_share"] = benchmark::Counter(flops / wide, rate);
  state.counters["fp32_share"] = benchmark::Counter(flops / narrow, rate);
}

// X Xᵀ of Gaussian numbers. [size, size]
at::Tensor Gram(std::int64_t size) {
  const c10::NoGradGuard no_grad;
  const at::Tensor x = at::randn({size, 2 * size}, at::kFloat);
  return at::mm(x, x.t()).to(at::kDouble);
}

SymmetricTiles TilesOf(const at::Tensor& matrix) {
  SymmetricTiles tiles(matrix.size(0));
  for (std::int64_t t = 0; t < tiles.num_tiles(); ++t) {
    const auto [row, col] = SymmetricTiles::IndexOf(t);
    tiles.Tile(row, col).copy_(
        matrix.narrow(0, row * SymmetricTiles::kTile, tiles.LengthOf(row))
            .narrow(1, col * SymmetricTiles::kTile, tiles.LengthOf(col)));
  }
  return tiles;
}

double ReductionFlops(std::int64_t size) {
  const auto n = static_cast<double>(size);
  return 4.0 / 3 * n * n * n;
}

// Arguments: size, threads.
void Eigenvalues(benchmark::State& state) {
  const at::Tensor gram = Gram(state.range(0));
  ThreadPool pool(static_cast<int>(state.range(1)));
  for (auto _ : state) {
    state.PauseTiming();
    SymmetricTiles tiles = TilesOf(gram);
    state.ResumeTiming();
    if (!internal::SymmetricEigenvalues(std::move(tiles), pool, RunContext())
             .ok()) {
      state.SkipWithError("no eigenvalues");
      return;
    }
  }
  Count(state, ReductionFlops(state.range(0)));
}

// LAPACK's dsyevd without vectors. Argument: size.
void LibraryEigenvalues(benchmark::State& state) {
  const c10::NoGradGuard no_grad;
  const at::Tensor gram = Gram(state.range(0));
  for (auto _ : state) {
    benchmark::DoNotOptimize(at::linalg_eigvalsh(gram));
  }
  Count(state, ReductionFlops(state.range(0)));
}

// The Gram matrix and its eigenvalues, of weights in bf16. Arguments: rows,
// width, threads.
void EffectiveRank(benchmark::State& state) {
  const c10::NoGradGuard no_grad;
  const at::Tensor weights = at::randn({state.range(0), state.range(1)})
                                 .mul_(0.02)
                                 .to(at::kBFloat16);
  const MatrixView view = {weights.data_ptr(), ElementType::kBFloat16,
                           state.range(0), state.range(1), state.range(1)};
  ThreadPool pool(static_cast<int>(state.range(2)));
  for (auto _ : state) {
    if (!ComputeSpectrum(view, pool, RunContext()).ok()) {
      state.SkipWithError("no spectrum");
      return;
    }
  }
  // Half of the products: the Gram matrix is symmetric.
  const std::int64_t small = std::min(state.range(0), state.range(1));
  Count(state, static_cast<double>(view.size()) * static_cast<double>(small) +
                   ReductionFlops(small));
}

BENCHMARK(Eigenvalues)
    ->ArgsProduct({{1024, 2048, 4096}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(LibraryEigenvalues)
    ->Arg(1024)
    ->Arg(2048)
    ->Arg(4096)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(EffectiveRank)
    ->ArgsProduct({{1024, 1408, 14336}, {2048}, {1, 2}})
    ->Args({14336, 4096, 2})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace moescope::numerics
