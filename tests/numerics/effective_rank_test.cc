#include "moescope/numerics/effective_rank.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/numerics/gemm_probe.h"
#include "tests/numerics/matrices.h"

namespace moescope::numerics {
namespace {

using ::testing::IsNan;

Spectrum Compute(const MatrixView& view, int threads = 1) {
  ThreadPool pool(threads);
  return *ComputeSpectrum(view, pool, RunContext());
}

Matrices Diagonal(const std::vector<float>& entries, std::int64_t rows,
                  std::int64_t cols) {
  Matrices matrix(1, rows, cols, ElementType::kFloat32);
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    matrix.Set(0, i / cols, i % cols, 0);
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    matrix.Set(0, at, at, entries[i]);
  }
  return matrix;
}

TEST(SpectrumTest, CountsEqualDirections) {
  const Matrices matrix = Diagonal({2, 2, 2}, 3, 5);

  const Spectrum spectrum = Compute(matrix.views()[0]);

  EXPECT_NEAR(spectrum.effective_rank, 3, 1e-12);
  EXPECT_NEAR(spectrum.frobenius, std::sqrt(12.0), 1e-12);
}

TEST(SpectrumTest, WeighsUnequalDirectionsByEnergy) {
  // Shares 0.9 and 0.1.
  const Matrices matrix = Diagonal({3, 1}, 4, 2);

  EXPECT_NEAR(Compute(matrix.views()[0]).effective_rank,
              std::exp(-0.9 * std::log(0.9) - 0.1 * std::log(0.1)), 1e-12);
}

TEST(SpectrumTest, OfAZeroMatrixIsZero) {
  const Matrices zero = Diagonal({}, 3, 4);

  const Spectrum spectrum = Compute(zero.views()[0]);

  EXPECT_EQ(spectrum.effective_rank, 0);
  EXPECT_EQ(spectrum.frobenius, 0);
}

TEST(SpectrumTest, IsNanWhenAnElementIs) {
  Matrices matrix(1, 2, 2, ElementType::kFloat32);
  matrix.FillRandom(1);
  matrix.Set(0, 0, 1, std::numeric_limits<float>::quiet_NaN());

  EXPECT_THAT(Compute(matrix.views()[0]).effective_rank, IsNan());
}

TEST(SpectrumTest, DoesNotDependOnThreadsAcrossTiles) {
  Matrices matrix(1, 300, 700, ElementType::kBFloat16);
  matrix.FillRandom(2);

  const Spectrum one = Compute(matrix.views()[0], 1);
  const Spectrum three = Compute(matrix.views()[0], 3);

  EXPECT_EQ(one.effective_rank, three.effective_rank);
  EXPECT_EQ(one.frobenius, three.frobenius);
}

TEST(SpectrumTest, IsTheSameForTheTranspose) {
  Matrices matrix(1, 3, 7, ElementType::kFloat32);
  matrix.FillRandom(3);
  Matrices transposed(1, 7, 3, ElementType::kFloat32);
  for (std::int64_t i = 0; i < 21; ++i) {
    transposed.Set(0, i % 7, i / 7,
                   static_cast<float>(
                       matrix.values()[0][static_cast<std::size_t>(i)]));
  }

  EXPECT_NEAR(Compute(matrix.views()[0]).effective_rank,
              Compute(transposed.views()[0]).effective_rank, 1e-9);
}

TEST(SpectrumTest, StopsWhenCancelled) {
  Matrices matrix(1, 2, 2, ElementType::kFloat32);
  matrix.FillRandom(4);
  ThreadPool pool(1);
  const RunContext context;
  context.token().Cancel(absl::CancelledError("enough"));

  const auto spectrum = ComputeSpectrum(matrix.views()[0], pool, context);

  EXPECT_EQ(spectrum.status().code(), absl::StatusCode::kCancelled);
}

TEST(SpectrumTest, RefusesWhatIsNoMatrix) {
  ThreadPool pool(1);
  MatrixView view;
  view.rows = view.cols = 2;
  view.row_stride = 1;

  const auto spectrum = ComputeSpectrum(view, pool, RunContext());

  EXPECT_EQ(spectrum.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(spectrum.status().message(),
            "matrix: is no matrix: [2, 2] with rows 1 and columns 1 elements "
            "apart");
}

TEST(GemmProbeTest, FindsAPositiveRate) {
  EXPECT_GT(*MeasureGemmGflops(absl::ZeroDuration()), 0);
}

// Two equal singular values of 5 · 2^±100: their squares leave the range of fp32.
TEST(EffectiveRankTest, DoesNotDependOnTheScaleOfTheWeights) {
  ThreadPool pool(1);
  const auto spectrum = [&pool](int exponent) {
    const std::vector<float> values = {
        std::ldexp(3.0F, exponent), std::ldexp(4.0F, exponent),
        std::ldexp(-4.0F, exponent), std::ldexp(3.0F, exponent)};
    const MatrixView view = {values.data(), ElementType::kFloat32, 2, 2, 2};
    return *ComputeSpectrum(view, pool, RunContext());
  };

  EXPECT_NEAR(spectrum(100).effective_rank, 2, 1e-12);
  EXPECT_NEAR(spectrum(-100).effective_rank, 2, 1e-12);
  EXPECT_DOUBLE_EQ(spectrum(100).frobenius,
                   std::ldexp(std::sqrt(50.0), 100));
  EXPECT_DOUBLE_EQ(spectrum(-100).frobenius,
                   std::ldexp(std::sqrt(50.0), -100));
}

}  // namespace
}  // namespace moescope::numerics
