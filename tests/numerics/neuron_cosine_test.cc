#include "moescope/numerics/neuron_cosine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  SimilarityMatrix matrix;
  const absl::Status status = FillCosines(pairs, RunContext(), matrix);
  if (!status.ok()) {
    return status;
  }
  return SolveAssignment(matrix, RunContext());
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

TEST(CompareMatchedTest, GivesCosinesAndFlattenedOnesBeforeAndAfter) {
  const std::vector<float> left = {3, 4, 1, 0};
  const std::vector<float> right = {1, 0, 4, 3};
  const std::vector<std::int64_t> swapped = {1, 0};

  const MatchedNeurons matched = *CompareMatched(
      {View(left, 2, 2), View(right, 2, 2)}, swapped, RunContext());

  EXPECT_THAT(matched.cosines, ElementsAre(DoubleEq(0.96), DoubleEq(1)));
  // Both have squares 26; ⟨(3,4),(1,0)⟩ + ⟨(1,0),(4,3)⟩ = 7, swapped 24 + 1.
  EXPECT_DOUBLE_EQ(matched.flattened_before, 7.0 / 26);
  EXPECT_DOUBLE_EQ(matched.flattened_after, 25.0 / 26);
}

TEST(CompareMatchedTest, RefusesWhatIsNoPermutation) {
  const NeuronPair pair = {View(Rows(), 3, 3), View(Moved(), 3, 3)};
  const std::vector<std::vector<std::int64_t>> wrongs = {
      {0, 1}, {0, 1, 1}, {0, 1, 3}, {-1, 0, 1}};
  for (const std::vector<std::int64_t>& wrong : wrongs) {
    EXPECT_EQ(CompareMatched(pair, wrong, RunContext()).status().code(),
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
