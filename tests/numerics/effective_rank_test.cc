#include "moescope/numerics/effective_rank.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
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

// Multiples of 1/64 with seven significant bits, row r times `scale(r)`, a power
// of two: sums of 512 products are exact in fp32.
template <class Scale>
Matrices Exact(std::int64_t rows, std::int64_t cols, ElementType type,
               const Scale& scale) {
  Matrices matrix(1, rows, cols, type);
  std::mt19937 random(5);
  std::uniform_int_distribution<int> draw(-100, 100);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      matrix.Set(0, r, c, scale(r) * static_cast<float>(draw(random)) / 64);
    }
  }
  return matrix;
}

// From LAPACK's eigenvalues of the exact Gram matrix.
void ExpectLapackRank(const Matrices& matrix, std::int64_t rows,
                      std::int64_t cols) {
  std::vector<double> values = matrix.values()[0];
  const at::Tensor x = at::from_blob(values.data(), {rows, cols}, at::kDouble);
  const at::Tensor energies =
      at::linalg_eigvalsh(rows < cols ? at::mm(x, x.t()) : at::mm(x.t(), x))
          .contiguous();
  const Spectrum expected =
      SpectrumFromEnergies(energies.data_ptr<double>(), energies.numel());

  const Spectrum found = Compute(matrix.views()[0], 2);

  EXPECT_NEAR(found.effective_rank, expected.effective_rank,
              1e-10 * expected.effective_rank);
  EXPECT_NEAR(found.frobenius, expected.frobenius, 1e-12 * expected.frobenius);
}

float One(std::int64_t) { return 1; }

TEST(SpectrumTest, AgreesWithLapackForWideMatrices) {
  ExpectLapackRank(Exact(301, 2100, ElementType::kFloat32, One), 301, 2100);
}

TEST(SpectrumTest, AgreesWithLapackForTallMatricesOfBFloat16) {
  ExpectLapackRank(Exact(2100, 301, ElementType::kBFloat16, One), 2100, 301);
}

// Singular values over twelve decades, energies over twenty-four.
TEST(SpectrumTest, AgreesWithLapackForGradedRows) {
  const auto scale = [](std::int64_t row) {
    return std::ldexp(1.0F, -static_cast<int>(row / 5));
  };
  ExpectLapackRank(Exact(200, 300, ElementType::kFloat32, scale), 200, 300);
}

TEST(SpectrumTest, AgreesWithLapackForRowsThatVanish) {
  const auto scale = [](std::int64_t row) { return row < 17 ? 1.0F : 0.0F; };
  ExpectLapackRank(Exact(250, 260, ElementType::kFloat32, scale), 250, 260);
}

TEST(SpectrumTest, OfARankOneMatrixIsOne) {
  Matrices matrix(1, 400, 410, ElementType::kFloat32);
  for (std::int64_t i = 0; i < 400 * 410; ++i) {
    matrix.Set(0, i / 410, i % 410,
               static_cast<float>((1 + i / 410 % 7) * (1 + i % 410 % 5)));
  }

  // 400 energies of up to 1e-15 count as a little entropy.
  EXPECT_NEAR(Compute(matrix.views()[0]).effective_rank, 1, 1e-10);
}

TEST(SpectrumTest, CountsADuplicateRowOnce) {
  const Matrices rows = Diagonal(std::vector<float>(150, 1), 150, 400);
  Matrices twice(1, 300, 400, ElementType::kFloat32);
  for (std::int64_t i = 0; i < 300 * 400; ++i) {
    const auto at = static_cast<std::size_t>(i % (150 * 400));
    twice.Set(0, i / 400, i % 400, static_cast<float>(rows.values()[0][at]));
  }

  EXPECT_NEAR(Compute(twice.views()[0]).effective_rank, 150, 150e-10);
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
