#include "server/numerics/symmetric_eigenvalues_internal.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/numerics/instruction_set.h"

namespace moescope::numerics::internal {
namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kTile = SymmetricTiles::kTile;

at::Tensor Random(std::int64_t rows, std::int64_t cols, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  at::Tensor matrix = at::empty({rows, cols}, at::kDouble);
  double* const values = matrix.data_ptr<double>();
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    values[i] = normal(random);
  }
  return matrix;
}

// X Xᵀ of `rank` random directions, the last 10^-decades as long as the first.
at::Tensor Gram(std::int64_t size, std::int64_t rank, double decades) {
  at::Tensor x = Random(size, rank, 7);
  for (std::int64_t r = 0; r < rank; ++r) {
    x.select(1, r).mul_(std::pow(
        10.0, -decades * static_cast<double>(r) / static_cast<double>(rank)));
  }
  return at::mm(x, x.t());
}

SymmetricTiles TilesOf(const at::Tensor& matrix) {
  SymmetricTiles tiles(matrix.size(0));
  for (std::int64_t t = 0; t < tiles.num_tiles(); ++t) {
    const auto [row, col] = SymmetricTiles::IndexOf(t);
    tiles.Tile(row, col).copy_(
        matrix.narrow(0, row * kTile, tiles.LengthOf(row))
            .narrow(1, col * kTile, tiles.LengthOf(col)));
  }
  return tiles;
}

std::vector<double> Solve(const at::Tensor& matrix, int threads = 1) {
  ThreadPool pool(threads);
  return *SymmetricEigenvalues(TilesOf(matrix), pool, RunContext());
}

// Both are backward stable: eigenvalues err by a small multiple of n ε ‖A‖.
void ExpectLapackValues(const at::Tensor& matrix) {
  const std::vector<double> found = Solve(matrix);
  const at::Tensor values = at::linalg_eigvalsh(matrix).contiguous();
  const at::Tensor expected =
      at::from_blob(const_cast<double*>(found.data()), {matrix.size(0)},
                    at::kDouble);
  const double scale = values.abs().max().item<double>();
  EXPECT_LE((values - expected).abs().max().item<double>(),
            4 * kEpsilon * scale * static_cast<double>(matrix.size(0)))
      << "size " << matrix.size(0);
}

// Beside tiles, bands and groups of sweeps.
class SizeTest : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(SizeTest, AgreesWithLapackOnAFullMatrix) {
  const at::Tensor half = Random(GetParam(), GetParam(), 1);
  ExpectLapackValues(half + half.t());
}

TEST_P(SizeTest, AgreesWithLapackOnALowRank) {
  ExpectLapackValues(Gram(GetParam(), (GetParam() + 2) / 3, 0));
}

INSTANTIATE_TEST_SUITE_P(
    SymmetricEigenvaluesTest, SizeTest,
    ::testing::Values(1, 2, 3, 7, kBand - 1, kBand, kBand + 1, kBand + 2,
                      2 * kBand, 3 * kBand + 7, kTile - 1, kTile, kTile + 1,
                      kTile + kBand + 1, 2 * kTile + 5, 3 * kTile + 9),
    [](const auto& size) { return "Of" + std::to_string(size.param); });

// Every set of vector instructions that this machine has.
class InstructionsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ForceInstructionSetForTest(GetParam()).ok());
  }
  void TearDown() override { ASSERT_TRUE(ForceInstructionSetForTest("").ok()); }
};

TEST_P(InstructionsTest, AgreeWithLapack) {
  ExpectLapackValues(Gram(3 * kBand + 7, 3 * kBand, 1));
}

INSTANTIATE_TEST_SUITE_P(
    SymmetricEigenvaluesTest, InstructionsTest,
    ::testing::ValuesIn(AvailableInstructionSets()),
    [](const auto& set) { return set.param; });

TEST(SymmetricEigenvaluesTest, AreThoseOfAGradedMatrix) {
  ExpectLapackValues(Gram(250, 250, 6));
}

TEST(SymmetricEigenvaluesTest, AreThoseOfDuplicateLines) {
  const at::Tensor x = Random(100, 40, 3);
  const at::Tensor twice = at::cat({x, x}, 0);
  ExpectLapackValues(at::mm(twice, twice.t()));
}

TEST(SymmetricEigenvaluesTest, OfADiagonalAreItsEntries) {
  const std::vector<double> found =
      Solve(at::diag(at::arange(300, at::kDouble) - 100));

  EXPECT_EQ(found.front(), -100);
  EXPECT_EQ(found[150], 50);
  EXPECT_EQ(found.back(), 199);
}

TEST(SymmetricEigenvaluesTest, OfTheIdentityAreOne) {
  EXPECT_THAT(Solve(at::eye(200, at::kDouble)), ::testing::Each(1.0));
}

TEST(SymmetricEigenvaluesTest, OfAZeroMatrixAreZero) {
  EXPECT_THAT(Solve(at::zeros({200, 200}, at::kDouble)), ::testing::Each(0.0));
}

TEST(SymmetricEigenvaluesTest, OfARankOneMatrixAreItsSquareAndZeros) {
  const at::Tensor ones = at::ones({500, 1}, at::kDouble);
  const std::vector<double> found = Solve(at::mm(ones, ones.t()));

  EXPECT_NEAR(found.back(), 500, 500 * 500 * kEpsilon);
  EXPECT_NEAR(found[498], 0, 500 * 500 * kEpsilon);
  EXPECT_NEAR(found[0], 0, 500 * 500 * kEpsilon);
}

// Eigenvalues of the second difference: 2 − 2 cos(π k / (n + 1)).
TEST(SymmetricEigenvaluesTest, AreKnownForTheSecondDifference) {
  constexpr std::int64_t kSize = 401;
  at::Tensor matrix = 2 * at::eye(kSize, at::kDouble);
  matrix.diagonal(1).fill_(-1);
  matrix.diagonal(-1).fill_(-1);

  const std::vector<double> found = Solve(matrix);

  const auto expected = [](double k) {
    return 2 - 2 * std::cos(M_PI * k / (kSize + 1));
  };
  EXPECT_NEAR(found[0], expected(1), kSize * 4 * kEpsilon);
  EXPECT_NEAR(found[200], expected(201), kSize * 4 * kEpsilon);
  EXPECT_NEAR(found[400], expected(401), kSize * 4 * kEpsilon);
}

// Scales by powers of two change no digit, however far squares would be out of
// range.
TEST(SymmetricEigenvaluesTest, ScaleWithTheMatrix) {
  const at::Tensor matrix = Gram(100, 100, 2);
  const std::vector<double> plain = Solve(matrix);
  const std::vector<double> large = Solve(matrix * std::ldexp(1.0, 900));
  const std::vector<double> small = Solve(matrix * std::ldexp(1.0, -900));

  EXPECT_EQ(large[50], std::ldexp(plain[50], 900));
  EXPECT_EQ(small[50], std::ldexp(plain[50], -900));
  EXPECT_EQ(small[99], std::ldexp(plain[99], -900));
}

TEST(SymmetricEigenvaluesTest, AreTheSameBitsForAnyNumberOfThreads) {
  const at::Tensor matrix = Gram(700, 700, 3);

  const std::vector<double> one = Solve(matrix, 1);

  EXPECT_EQ(Solve(matrix, 2), one);
  EXPECT_EQ(Solve(matrix, 5), one);
}

TEST(SymmetricEigenvaluesTest, BeginNoStepOnceCancelled) {
  ThreadPool pool(2);
  const RunContext context;
  SymmetricTiles tiles = TilesOf(Gram(300, 300, 0));
  absl::StatusOr<BandMatrix> band = ReduceToBand(tiles, pool, context);
  ASSERT_TRUE(band.ok());
  context.token().Cancel(absl::CancelledError("enough"));

  const auto again = ReduceToBand(tiles, pool, context);
  const absl::Status chase = ReduceToTridiagonal(*band, pool, context);
  const auto values = TridiagonalEigenvalues(
      std::vector<double>(500, 0.5), std::vector<double>(499, 1.0), context);

  EXPECT_EQ(again.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(chase.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(values.status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace moescope::numerics::internal
