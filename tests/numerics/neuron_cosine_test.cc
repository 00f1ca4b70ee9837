#include "moescope/numerics/neuron_cosine.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/numerics/matrices.h"

namespace moescope::numerics {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;

MatrixView View(const std::vector<float>& values, std::int64_t rows,
                std::int64_t cols) {
  return {values.data(), ElementType::kFloat32, rows, cols, cols};
}

// The permutation that is best by the cosines filled in.
absl::StatusOr<Assignment> Match(const std::vector<NeuronPair>& pairs) {
  ThreadPool pool(2);
  SimilarityMatrix matrix;
  const absl::Status status = FillCosines(pairs, pool, RunContext(), matrix);
  if (!status.ok()) {
    return status;
  }
  return SolveAssignment(matrix, pool, RunContext());
}

const std::vector<float>& Rows() {
  static const auto* const rows =
      new std::vector<float>{1, 0, 0, 0, 2, 0, 3, 0, 4};
  return *rows;
}
// Rows() scaled and moved: row i of Rows() is nearest to row (i + 1) mod 3.
const std::vector<float>& Moved() {
  static const auto* const rows =
      new std::vector<float>{6, 0, 8, 5, 0, 0, 0, 1, 0};
  return *rows;
}

TEST(FillCosinesTest, FindsNeuronsWhateverTheirLength) {
  const Assignment found =
      *Match({{View(Rows(), 3, 3), View(Moved(), 3, 3)}});

  EXPECT_THAT(found.permutation, ElementsAre(1, 2, 0));
  // Cosines of 1 in units of 2^-28, each to 1e-7.
  EXPECT_NEAR(static_cast<double>(found.objective_quantised) * 0x1p-28, 3,
              3e-7);
}

TEST(FillCosinesTest, AddsUpPairsAndReadsColumnsAsNeurons) {
  const NeuronPair rows = {View(Rows(), 3, 3), View(Moved(), 3, 3)};
  const std::vector<float> turned_left = {1, 0, 3, 0, 2, 0, 0, 0, 4};
  const std::vector<float> turned_right = {6, 5, 0, 0, 0, 1, 8, 0, 0};
  const NeuronPair columns = {Transposed(View(turned_left, 3, 3)),
                              Transposed(View(turned_right, 3, 3))};

  const Assignment found = *Match({rows, columns, rows});

  EXPECT_THAT(found.permutation, ElementsAre(1, 2, 0));
  EXPECT_NEAR(static_cast<double>(found.objective_quantised) * 0x1p-28, 9,
              9e-7);
}

TEST(FillCosinesTest, GivesAZeroNeuronCosineZeroWithAll) {
  const std::vector<float> left = {0, 0, 1, 1};

  const Assignment found = *Match({{View(left, 2, 2), View(left, 2, 2)}});

  EXPECT_THAT(found.permutation, ElementsAre(0, 1));
  EXPECT_NEAR(static_cast<double>(found.objective_quantised) * 0x1p-28, 1,
              1e-7);
}

// Their inverse norms are beyond fp32.
TEST(FillCosinesTest, FindsNeuronsOfSubnormalNumbers) {
  const std::vector<float> floats = {1, 0, 0, 1e-40F};
  const std::vector<std::uint16_t> bfloats = {0x3f80, 0, 0, 0x0001};
  const MatrixView bfloat_view = {bfloats.data(), ElementType::kBFloat16, 2, 2,
                                  2};

  for (const MatrixView& view : {View(floats, 2, 2), bfloat_view}) {
    const auto found = Match({{view, view}});

    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_NEAR(static_cast<double>(found->objective_quantised) * 0x1p-28, 2,
                2e-7);
  }
}

TEST(FillCosinesTest, RefusesNeuronsThatAreNotFiniteOrDoNotFit) {
  const std::vector<float> bad = {1, std::numeric_limits<float>::quiet_NaN(),
                                  2, 3};
  const MatrixView good = View(Rows(), 2, 2);

  EXPECT_EQ(Match({{good, View(bad, 2, 2)}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Match({{good, View(Rows(), 3, 2)}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Match({}).status().code(), absl::StatusCode::kInvalidArgument);
}

// Cosine of row i of matrix 0 and row j of matrix 1, in fp64.
double SlowCosine(const Matrices& matrices, std::int64_t depth, std::int64_t i,
                  std::int64_t j) {
  const double* const x = matrices.values()[0].data() + i * depth;
  const double* const y = matrices.values()[1].data() + j * depth;
  return std::inner_product(x, x + depth, y, 0.0) /
         std::sqrt(std::inner_product(x, x + depth, x, 0.0)) /
         std::sqrt(std::inner_product(y, y + depth, y, 0.0));
}

// Largest difference from SlowCosine.
double WorstCosine(const NeuronPair& pair, const Matrices& matrices) {
  ThreadPool pool(2);
  SimilarityMatrix filled;
  EXPECT_TRUE(FillCosines({pair}, pool, RunContext(), filled).ok());
  double worst = 0;
  for (std::int64_t i = 0; i < filled.size(); ++i) {
    for (std::int64_t j = 0; j < filled.size(); ++j) {
      const double found =
          -static_cast<double>(filled.cost(i, j)) / kSimilarityScale;
      worst = std::max(
          worst,
          std::fabs(found - SlowCosine(matrices, pair.left.cols, i, j)));
    }
  }
  return worst;
}

// Every test runs once with each set that this processor has.
class BFloat16CosinesTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ForceInstructionSetForTest(GetParam()).ok());
  }
  void TearDown() override { ASSERT_TRUE(ForceInstructionSetForTest("").ok()); }
};
INSTANTIATE_TEST_SUITE_P(
    Sets, BFloat16CosinesTest, ::testing::ValuesIn(AvailableInstructionSets()),
    [](const auto& set) { return set.param; });

// Sums of n products of numbers of length 1 err by no more than n eps times
// the sum of their magnitudes, which is at most 1; rounding errors partly
// cancel, as √n. Fixed point adds 2^-29.
constexpr double kEpsilon = 0x1p-23;

TEST_P(BFloat16CosinesTest, AgreeWithFp64WhereNeuronsAreRows) {
  constexpr std::int64_t kDepth = 1043;
  Matrices matrices(2, 270, kDepth, ElementType::kBFloat16, 3, 2);
  matrices.FillRandom(1);

  EXPECT_LE(WorstCosine({matrices.views()[0], matrices.views()[1]}, matrices),
            kEpsilon * std::sqrt(kDepth));
}

TEST_P(BFloat16CosinesTest, AreTheSameWhereNeuronsAreColumns) {
  constexpr std::int64_t kNeurons = 270;
  constexpr std::int64_t kDepth = 1043;
  Matrices rows(2, kNeurons, kDepth, ElementType::kBFloat16);
  rows.FillRandom(1);
  Matrices columns(2, kDepth, kNeurons, ElementType::kBFloat16, 3, 2);
  for (std::int64_t m = 0; m < 2; ++m) {
    for (std::int64_t i = 0; i < kNeurons * kDepth; ++i) {
      columns.Set(m, i % kDepth, i / kDepth,
                  static_cast<float>(rows.values()[static_cast<std::size_t>(
                      m)][static_cast<std::size_t>(i)]));
    }
  }

  EXPECT_LE(WorstCosine({Transposed(columns.views()[0]),
                         Transposed(columns.views()[1])},
                        rows),
            kEpsilon * std::sqrt(kDepth));
}

std::vector<std::int32_t> Costs(const NeuronPair& pair, int threads) {
  ThreadPool pool(threads);
  SimilarityMatrix filled;
  EXPECT_TRUE(FillCosines({pair, pair}, pool, RunContext(), filled).ok());
  return {filled.costs(), filled.costs() + filled.size() * filled.size()};
}

// More than one block, and parts at its end that are not full.
TEST_P(BFloat16CosinesTest, AreTheSameForAnyNumberOfThreads) {
  Matrices matrices(2, 1111, 40, ElementType::kBFloat16);
  matrices.FillRandom(1);
  const NeuronPair pair = {matrices.views()[0], matrices.views()[1]};

  EXPECT_EQ(Costs(pair, 1), Costs(pair, 3));
}

TEST_P(BFloat16CosinesTest, UseTheirMemoryForMatricesOfAnySize) {
  Matrices large(2, 600, 90, ElementType::kBFloat16);
  large.FillRandom(1);
  Matrices small(2, 70, 33, ElementType::kBFloat16);
  small.FillRandom(2);
  const NeuronPair pair = {small.views()[0], small.views()[1]};
  ThreadPool pool(2);
  SimilarityMatrix filled;
  ASSERT_TRUE(FillCosines({{large.views()[0], large.views()[1]}}, pool,
                          RunContext(), filled)
                  .ok());
  ASSERT_TRUE(FillCosines({pair, pair}, pool, RunContext(), filled).ok());

  EXPECT_EQ(std::vector<std::int32_t>(filled.costs(),
                                      filled.costs() + 70 * 70),
            Costs(pair, 1));
}

// Products of such numbers are below the least of fp32.
TEST_P(BFloat16CosinesTest, DoNotDependOnTheLengthOfTinyNeurons) {
  constexpr std::int64_t kDepth = 37;
  Matrices matrices(2, 5, kDepth, ElementType::kBFloat16);
  Matrices tiny(2, 5, kDepth, ElementType::kBFloat16);
  matrices.FillRandom(1);
  for (std::int64_t m = 0; m < 2; ++m) {
    for (std::int64_t i = 0; i < 5 * kDepth; ++i) {
      tiny.Set(m, i / kDepth, i % kDepth,
               static_cast<float>(matrices.values()[static_cast<std::size_t>(
                   m)][static_cast<std::size_t>(i)]) *
                   0x1p-80F);
    }
  }

  EXPECT_LE(WorstCosine({tiny.views()[0], tiny.views()[1]}, matrices),
            kEpsilon * std::sqrt(kDepth));
}

TEST(CompareMatchedTest, HandsANeuronThatIsNotFiniteOn) {
  const std::vector<float> bad = {1, 0,
                                  std::numeric_limits<float>::quiet_NaN(), 1};
  ThreadPool pool(1);

  const MatchedNeurons matched = *CompareMatched(
      {View(bad, 2, 2), View(bad, 2, 2)}, {0, 1}, pool, RunContext());

  EXPECT_EQ(matched.cosines[0], 1);
  EXPECT_TRUE(std::isnan(matched.cosines[1]));
  EXPECT_TRUE(std::isnan(matched.flattened_after));
}

TEST(CompareMatchedTest, GivesTheSameWhereNeuronsAreColumns) {
  const std::vector<float> left = {3, 1, 4, 0};
  const std::vector<float> right = {1, 4, 0, 3};
  const std::vector<std::int64_t> swapped = {1, 0};

  ThreadPool pool(2);
  const MatchedNeurons matched = *CompareMatched(
      {Transposed(View(left, 2, 2)), Transposed(View(right, 2, 2))}, swapped,
      pool, RunContext());

  EXPECT_THAT(matched.cosines, ElementsAre(DoubleEq(0.96), DoubleEq(1)));
  EXPECT_DOUBLE_EQ(matched.flattened_before, 7.0 / 26);
  EXPECT_DOUBLE_EQ(matched.flattened_after, 25.0 / 26);
}

TEST(CompareMatchedTest, IsTheSameForAnyNumberOfThreads) {
  constexpr std::int64_t kNeurons = 70;
  Matrices matrices(2, kNeurons, 90, ElementType::kBFloat16);
  matrices.FillRandom(1);
  Matrices turned(2, 90, kNeurons, ElementType::kBFloat16);
  turned.FillRandom(2);
  std::vector<std::int64_t> order(kNeurons);
  std::iota(order.rbegin(), order.rend(), std::int64_t{0});
  const NeuronPair rows = {matrices.views()[0], matrices.views()[1]};
  const NeuronPair columns = {Transposed(turned.views()[0]),
                              Transposed(turned.views()[1])};
  ThreadPool one(1);
  ThreadPool three(3);

  EXPECT_EQ(CompareMatched(rows, order, one, RunContext())->cosines,
            CompareMatched(rows, order, three, RunContext())->cosines);
  EXPECT_EQ(CompareMatched(columns, order, one, RunContext())->cosines,
            CompareMatched(columns, order, three, RunContext())->cosines);
}

TEST(CompareMatchedTest, GivesCosinesAndFlattenedOnesBeforeAndAfter) {
  const std::vector<float> left = {3, 4, 1, 0};
  const std::vector<float> right = {1, 0, 4, 3};
  const std::vector<std::int64_t> swapped = {1, 0};

  ThreadPool pool(2);
  const MatchedNeurons matched = *CompareMatched(
      {View(left, 2, 2), View(right, 2, 2)}, swapped, pool, RunContext());

  EXPECT_THAT(matched.cosines, ElementsAre(DoubleEq(0.96), DoubleEq(1)));
  // Both have squares 26; ⟨(3,4),(1,0)⟩ + ⟨(1,0),(4,3)⟩ = 7, swapped 24 + 1.
  EXPECT_DOUBLE_EQ(matched.flattened_before, 7.0 / 26);
  EXPECT_DOUBLE_EQ(matched.flattened_after, 25.0 / 26);
}

TEST(CompareMatchedTest, RefusesWhatIsNoPermutation) {
  const NeuronPair pair = {View(Rows(), 3, 3), View(Moved(), 3, 3)};
  const std::vector<std::vector<std::int64_t>> wrongs = {
      {0, 1}, {0, 1, 1}, {0, 1, 3}, {-1, 0, 1}};
  ThreadPool pool(1);
  for (const std::vector<std::int64_t>& wrong : wrongs) {
    EXPECT_EQ(CompareMatched(pair, wrong, pool, RunContext()).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(KendallTauTest, CountsInversions) {
  EXPECT_EQ(KendallTauToIdentity(std::vector<std::int64_t>{0, 1, 2, 3}), 1);
  EXPECT_EQ(KendallTauToIdentity(std::vector<std::int64_t>{3, 2, 1, 0}), -1);
  // Inversions (2,0), (2,1), (4,3): 1 − 4 · 3 / 20.
  EXPECT_DOUBLE_EQ(
      KendallTauToIdentity(std::vector<std::int64_t>{2, 0, 1, 4, 3}), 0.4);
  EXPECT_TRUE(std::isnan(KendallTauToIdentity(std::vector<std::int64_t>{0})));
}

TEST(KendallTauTest, HasTheDeviationOfAllPermutationsOfThree) {
  std::vector<std::int64_t> permutation = {0, 1, 2};
  double squares = 0;
  do {
    const double tau = KendallTauToIdentity(permutation);
    squares += tau * tau;
  } while (std::next_permutation(permutation.begin(), permutation.end()));

  EXPECT_DOUBLE_EQ(KendallTauNullError(3), std::sqrt(squares / 6));
  EXPECT_TRUE(std::isnan(KendallTauNullError(1)));
}

}  // namespace
}  // namespace moescope::numerics
