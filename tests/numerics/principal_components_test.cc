#include "moescope/numerics/principal_components.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "server/numerics/symmetric_eigen_internal.h"
#include "tests/numerics/matrices.h"

namespace moescope::numerics {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsNan;
using ::testing::Pointwise;

NeuronComponents Neurons(const std::vector<MatrixView>& views, NeuronAxis axis,
                         std::int64_t components, int threads = 1) {
  ThreadPool pool(threads);
  return *ComputeNeuronComponents(views, axis, components, pool, RunContext());
}

// Shares and scores by a plain SVD of the standardised points, in fp64.
struct Slow {
  std::vector<double> shares;
  at::Tensor scores;  // [n, D], signs free
};

Slow SlowComponents(const at::Tensor& points) {
  const at::Tensor centred = points - points.mean(0);
  const at::Tensor spread = points.std(0);
  const at::Tensor z =
      at::where(spread == 0, at::zeros_like(centred), centred / spread);
  const auto [u, s, vh] = at::linalg_svd(z, false);
  const at::Tensor energy = s * s / (s * s).sum();
  Slow slow;
  slow.scores = u * s;
  for (std::int64_t i = 0; i < energy.numel(); ++i) {
    slow.shares.push_back(energy[i].item<double>());
  }
  return slow;
}

at::Tensor Points(const Matrices& matrices, std::int64_t cols, bool rows) {
  std::vector<at::Tensor> parts;
  for (const std::vector<double>& values : matrices.values()) {
    const at::Tensor flat = at::empty(
        {static_cast<std::int64_t>(values.size())}, at::kDouble);
    std::copy(values.begin(), values.end(), flat.data_ptr<double>());
    const at::Tensor matrix = flat.view({-1, cols});
    parts.push_back(rows ? matrix : matrix.t());
  }
  return at::cat(parts, 0).contiguous();
}

// Largest |difference| of |score| from the reference, per component.
double ScoreError(const PrincipalComponents& found, const Slow& slow,
                  std::int64_t components) {
  double worst = 0;
  const std::int64_t points = slow.scores.size(0);
  for (std::int64_t i = 0; i < points; ++i) {
    for (std::int64_t c = 0; c < components; ++c) {
      const double score =
          found.scores[static_cast<std::size_t>(i * components + c)];
      worst = std::max(worst, std::fabs(std::fabs(score) -
                                        std::fabs(slow.scores[i][c]
                                                      .item<double>())));
    }
  }
  return worst;
}

TEST(ComponentsFromGramTest, IsExactForPointsOnALine) {
  // Points -1, 0, 1 times (2, 0).
  const PrincipalComponents found =
      *ComponentsFromGram({4, 0, -4, 0, 0, 0, -4, 0, 4}, 3, 2);

  EXPECT_THAT(found.scores,
              Pointwise(DoubleNear(1e-7),
                        std::vector<double>{2, 0, 0, 0, -2, 0}));
  EXPECT_THAT(found.explained_ratio,
              Pointwise(DoubleNear(1e-14), std::vector<double>{1, 0}));
  EXPECT_EQ(found.spectrum.size(), 3U);
  EXPECT_NEAR(found.sign_gap[0], 0, 1e-14);
}

TEST(ComponentsFromGramTest, MakesTheScoreOfLargestMagnitudePositive) {
  // Points -1, -1, 2 on a line.
  const PrincipalComponents found =
      *ComponentsFromGram({1, 1, -2, 1, 1, -2, -2, -2, 4}, 3, 1);

  EXPECT_THAT(found.scores,
              Pointwise(DoubleNear(1e-14), std::vector<double>{-1, -1, 2}));
  EXPECT_NEAR(found.sign_gap[0], 0.5, 1e-14);
}

TEST(ComponentsFromGramTest, GivesZerosWhereAllPointsAgree) {
  const PrincipalComponents found = *ComponentsFromGram({0, 0, 0, 0}, 2, 2);

  EXPECT_THAT(found.scores, Each(0));
  EXPECT_THAT(found.explained_ratio, ElementsAre(0, 0));
  EXPECT_THAT(found.sign_gap, ElementsAre(0, 0));
}

TEST(ComponentsFromGramTest, HandsNonfiniteValuesOn) {
  const double nan = std::numeric_limits<double>::quiet_NaN();

  const PrincipalComponents found = *ComponentsFromGram({1, nan, nan, 1}, 2, 2);

  EXPECT_THAT(found.scores, Each(IsNan()));
  EXPECT_THAT(found.spectrum, Each(IsNan()));
}

TEST(ComponentsFromGramTest, RefusesAWrongSize) {
  const auto found = ComponentsFromGram({1, 2}, 2, 1);

  EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(found.status()).fields[0].field, "gram");
}

// Weights of Matrices are at most 2 and products of 2048 of them are summed in
// fp32: a correlation errs by at most √2048 · 2^-24 · 16 or so, a share by that
// over D, and a score by that times its length √n over the gap of the shares.
constexpr double kShareError = 1e-6;
constexpr double kScoreError = 2e-3;

TEST(NeuronComponentsTest, AgreeWithASvdForRows) {
  Matrices matrices(3, 41, 19, ElementType::kBFloat16, /*padding=*/5);
  matrices.FillRandom(1);
  const Slow slow = SlowComponents(Points(matrices, 19, true));

  const NeuronComponents found =
      Neurons(matrices.views(), NeuronAxis::kRows, 3);

  EXPECT_LE(ScoreError(found.components, slow, 3), kScoreError);
  EXPECT_THAT(found.components.spectrum,
              Pointwise(DoubleNear(kShareError),
                        std::vector<double>(slow.shares.begin(),
                                            slow.shares.begin() + 16)));
  EXPECT_LE(found.residual, 1e-8);
  EXPECT_THAT(found.nonfinite, ElementsAre(0, 0, 0));
}

TEST(NeuronComponentsTest, AgreeWithASvdForColumns) {
  Matrices matrices(2, 21, 53, ElementType::kFloat16);
  matrices.FillRandom(2);
  const Slow slow = SlowComponents(Points(matrices, 53, false));

  const NeuronComponents found =
      Neurons(matrices.views(), NeuronAxis::kColumns, 2);

  EXPECT_LE(ScoreError(found.components, slow, 2), kScoreError);
  EXPECT_NEAR(found.components.explained_ratio[0], slow.shares[0], kShareError);
}

TEST(NeuronComponentsTest, AgreeWithASvdByKrylovSubspaces) {
  Matrices matrices(1, 1100, 520, ElementType::kBFloat16);
  matrices.FillRandom(3);
  const Slow slow = SlowComponents(Points(matrices, 520, true));

  const NeuronComponents found =
      Neurons(matrices.views(), NeuronAxis::kRows, 2);

  EXPECT_LE(ScoreError(found.components, slow, 2), kScoreError);
  EXPECT_THAT(found.components.spectrum,
              Pointwise(DoubleNear(kShareError),
                        std::vector<double>(slow.shares.begin(),
                                            slow.shares.begin() + 16)));
  EXPECT_LE(found.residual, 1e-8);
}

TEST(NeuronComponentsTest, KeepDigitsWhereMeansAreLarge) {
  Matrices matrices(1, 64, 6, ElementType::kFloat32);
  matrices.FillRandom(4);
  for (std::int64_t r = 0; r < 64; ++r) {
    matrices.Set(0, r, 2,
                 1000 + static_cast<float>(r % 7) * 0x1p-6F);
  }
  const Slow slow = SlowComponents(Points(matrices, 6, true));

  const NeuronComponents found =
      Neurons(matrices.views(), NeuronAxis::kRows, 2);

  EXPECT_LE(ScoreError(found.components, slow, 2), kScoreError);
  EXPECT_NEAR(found.components.explained_ratio[0], slow.shares[0], 1e-5);
}

TEST(NeuronComponentsTest, TakeConstantCoordinatesForZero) {
  Matrices matrices(1, 32, 5, ElementType::kBFloat16);
  matrices.FillRandom(5);
  for (std::int64_t r = 0; r < 32; ++r) {
    matrices.Set(0, r, 3, 0.5F);
  }

  const NeuronComponents found =
      Neurons(matrices.views(), NeuronAxis::kRows, 2);

  EXPECT_NEAR(found.components.spectrum[4], 0, 1e-15);
  EXPECT_NEAR(found.components.spectrum[0] + found.components.spectrum[1] +
                  found.components.spectrum[2] + found.components.spectrum[3],
              1, 1e-12);
}

TEST(NeuronComponentsTest, GiveTheSameBitsForAnyNumberOfThreads) {
  Matrices matrices(2, 2100, 270, ElementType::kBFloat16);
  matrices.FillRandom(6);

  const NeuronComponents one =
      Neurons(matrices.views(), NeuronAxis::kRows, 2, 1);
  const NeuronComponents many =
      Neurons(matrices.views(), NeuronAxis::kRows, 2, 3);

  EXPECT_EQ(one.components.scores, many.components.scores);
  EXPECT_EQ(one.components.spectrum, many.components.spectrum);
}

TEST(NeuronComponentsTest, CountNonfiniteWeights) {
  Matrices matrices(2, 8, 4, ElementType::kBFloat16);
  matrices.FillRandom(7);
  matrices.Set(1, 3, 2, std::numeric_limits<float>::quiet_NaN());

  const NeuronComponents found =
      Neurons(matrices.views(), NeuronAxis::kRows, 2);

  EXPECT_THAT(found.nonfinite, ElementsAre(0, 1));
  EXPECT_THAT(found.components.scores, Each(IsNan()));
  EXPECT_EQ(found.components.spectrum.size(), 4U);
}

// Random neurons, coordinate d times 2^exponent(d).
template <class Exponent>
Matrices Scaled(ElementType type, const Exponent& exponent) {
  Matrices matrices(1, 90, 23, type);
  std::mt19937 random(8);
  std::uniform_int_distribution<int> draw(-100, 120);
  for (std::int64_t i = 0; i < 90 * 23; ++i) {
    matrices.Set(0, i / 23, i % 23,
                 std::ldexp(static_cast<float>(draw(random)) / 64,
                            exponent(i % 23)));
  }
  return matrices;
}

template <class Exponent>
void ExpectPlainBits(const Exponent& exponent) {
  const auto none = [](std::int64_t) { return 0; };
  const NeuronComponents plain =
      Neurons(Scaled(ElementType::kFloat32, none).views(), NeuronAxis::kRows, 3);

  const NeuronComponents found = Neurons(
      Scaled(ElementType::kFloat32, exponent).views(), NeuronAxis::kRows, 3);

  EXPECT_EQ(found.components.scores, plain.components.scores);
  EXPECT_EQ(found.components.spectrum, plain.components.spectrum);
  EXPECT_THAT(found.nonfinite, ElementsAre(0));
}

TEST(NeuronComponentsTest, KeepTheirBitsWhereSquaresOverflow) {
  ExpectPlainBits([](std::int64_t) { return 70; });
}

TEST(NeuronComponentsTest, KeepTheirBitsWhereSquaresVanish) {
  ExpectPlainBits([](std::int64_t) { return -80; });
}

TEST(NeuronComponentsTest, KeepTheirBitsWhereCoordinatesDiffer) {
  ExpectPlainBits([](std::int64_t d) {
    return d % 3 == 0 ? 90 : d % 3 == 1 ? -100 : 3;
  });
}

TEST(NeuronComponentsTest, OfBFloat16SurviveAnyScale) {
  const auto none = [](std::int64_t) { return 0; };
  const auto large = [](std::int64_t) { return 100; };
  const NeuronComponents plain = Neurons(
      Scaled(ElementType::kBFloat16, none).views(), NeuronAxis::kRows, 2);

  const NeuronComponents found = Neurons(
      Scaled(ElementType::kBFloat16, large).views(), NeuronAxis::kRows, 2);

  EXPECT_THAT(found.components.spectrum,
              Pointwise(DoubleNear(kShareError), plain.components.spectrum));
}

TEST(NeuronComponentsTest, TakeLargeConstantsForZero) {
  Matrices matrices(1, 32, 5, ElementType::kFloat32);
  matrices.FillRandom(9);
  for (std::int64_t r = 0; r < 32; ++r) {
    matrices.Set(0, r, 3, 0x1p100F);
  }

  const NeuronComponents found =
      Neurons(matrices.views(), NeuronAxis::kRows, 2);

  EXPECT_NEAR(found.components.spectrum[4], 0, 1e-15);
  EXPECT_GT(found.components.spectrum[3], 0.01);
}

TEST(NeuronComponentsTest, RefuseNeuronsOfDifferentLengths) {
  const Matrices a(1, 2, 3, ElementType::kFloat32);
  const Matrices b(1, 2, 4, ElementType::kFloat32);
  ThreadPool pool(1);

  const auto found = ComputeNeuronComponents({a.views()[0], b.views()[0]},
                                             NeuronAxis::kRows, 2, pool,
                                             RunContext());

  EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(found.status()).fields[0].field, "matrices");
}

TEST(NeuronComponentsTest, StopWhenCancelled) {
  Matrices matrices(1, 8, 4, ElementType::kBFloat16);
  matrices.FillRandom(8);
  ThreadPool pool(1);
  const RunContext context;
  context.token().Cancel(absl::CancelledError("enough"));

  EXPECT_EQ(ComputeNeuronComponents(matrices.views(), NeuronAxis::kRows, 2,
                                    pool, context)
                .status()
                .code(),
            absl::StatusCode::kCancelled);
}

TEST(LargestPairsTest, FindsSeparateEigenvaluesOfADiagonal) {
  const at::Tensor diagonal = at::linspace(0, 1, 600, at::kDouble);
  ThreadPool pool(2);

  const auto pairs = internal::LargestPairs(at::diag(diagonal), 16, 2, pool,
                                            RunContext());

  ASSERT_TRUE(pairs.ok()) << pairs.status();
  EXPECT_NEAR(pairs->values[0].item<double>(), 1, 1e-12);
  EXPECT_NEAR(pairs->values[1].item<double>(), 598.0 / 599, 1e-12);
  EXPECT_NEAR(pairs->values[15].item<double>(), 584.0 / 599, 1e-9);
  EXPECT_LE(pairs->residual, 1e-8);
}

}  // namespace
}  // namespace moescope::numerics
