#include "moescope/numerics/cosine.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/numerics/gram.h"
#include "tests/numerics/matrices.h"

namespace moescope::numerics {
namespace {

using ::testing::DoubleEq;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsNan;

TEST(CosinesFromGramTest, DividesByTheNorms) {
  EXPECT_THAT(*CosinesFromGram({4, 3, 3, 9}, 2), ElementsAre(1, 0.5, 0.5, 1));
}

TEST(CosinesFromGramTest, GivesAZeroVectorCosineZeroWithAll) {
  EXPECT_THAT(*CosinesFromGram({4, 0, 0, 0}, 2), ElementsAre(1, 0, 0, 0));
}

TEST(CosinesFromGramTest, HasExactlyOneOnTheDiagonalAndClips) {
  const double rounded_up = 0.3 * (1 + 1e-15);

  EXPECT_THAT(*CosinesFromGram({0.3, rounded_up, -rounded_up, 0.3}, 2),
              ElementsAre(1, 1, -1, 1));
}

TEST(CosinesFromGramTest, SurvivesNormsWhoseProductLeavesTheRange) {
  EXPECT_THAT(*CosinesFromGram({1e300, 5e299, 5e299, 1e300}, 2),
              ElementsAre(1, DoubleEq(0.5), DoubleEq(0.5), 1));
}

TEST(CosinesFromGramTest, KeepsNonfiniteVectorsToTheirRowAndColumn) {
  const double nan = std::numeric_limits<double>::quiet_NaN();

  EXPECT_THAT(*CosinesFromGram({4, nan, nan, nan}, 2),
              ElementsAre(1, IsNan(), IsNan(), IsNan()));
  EXPECT_THAT(*CosinesFromGram({HUGE_VAL}, 1), Each(IsNan()));
}

TEST(CosinesFromGramTest, RefusesAWrongSize) {
  const auto cosines = CosinesFromGram({1, 2, 3}, 2);

  EXPECT_EQ(cosines.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cosines.status().message(), "gram: has 3 entries, not 2²");
}

TEST(RowCosinesTest, ComparesRows) {
  EXPECT_THAT(*RowCosines({3, 4, 4, 3, 0, 0}, 3, 2),
              ElementsAre(1, DoubleEq(0.96), 0, DoubleEq(0.96), 1, 0, 0, 0, 0));
}

TEST(RowCosinesTest, AgreesWithTheGramKernel) {
  Matrices rows(1, 6, 200, ElementType::kBFloat16, /*padding=*/3);
  rows.FillRandom(1);
  const MatrixView view = rows.views()[0];
  std::vector<MatrixView> each;
  for (std::int64_t r = 0; r < 6; ++r) {
    each.push_back({static_cast<const std::uint16_t*>(view.data) +
                        r * view.row_stride,
                    view.type, 1, 200, 200});
  }
  ThreadPool pool(1);

  const std::vector<double> direct = *RowCosines(view);
  const std::vector<double> by_kernel = *CosinesFromGram(
      ComputeGram(each, GramOptions(), pool, RunContext())->gram, 6);

  // 200 roundings in fp32 of terms whose sum of magnitudes is the norm's.
  EXPECT_THAT(by_kernel,
              ::testing::Pointwise(::testing::DoubleNear(200 * 0x1p-23),
                                   direct));
}

TEST(RowCosinesTest, TakesNoRows) {
  EXPECT_TRUE(RowCosines({}, 0, 5)->empty());
}

TEST(RowCosinesTest, RefusesSizesThatContradictEachOther) {
  const auto cosines = RowCosines({1, 2, 3}, 2, 2);

  EXPECT_EQ(cosines.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cosines.status().message(), "rows: has 3 entries, not 2 x 2");
}

}  // namespace
}  // namespace moescope::numerics
