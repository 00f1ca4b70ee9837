#include "moescope/numerics/dbscan.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"

namespace moescope::numerics {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DbscanTest, NumbersClustersInTheOrderOfTheirFirstCorePoint) {
  EXPECT_THAT(*Dbscan({10, 0, 11, 1, 12, 2, 50}, 1, 1, 2),
              ElementsAre(0, 1, 0, 1, 0, 1, -1));
}

TEST(DbscanTest, CountsThePointItselfAndTheBorder) {
  EXPECT_THAT(*Dbscan({0, 2}, 1, 2, 2), ElementsAre(0, 0));
  EXPECT_THAT(*Dbscan({0, 2}, 1, 1.9, 2), ElementsAre(-1, -1));
  EXPECT_THAT(*Dbscan({0, 2}, 1, 1.9, 1), ElementsAre(0, 1));
}

TEST(DbscanTest, GivesABorderPointToTheFirstCluster) {
  // 3 is within 1 of 2 and of 4, but has only two neighbours itself.
  EXPECT_THAT(*Dbscan({0, 1, 2, 1.5, 3, 4, 5, 6, 4.5}, 1, 1, 4),
              ElementsAre(0, 0, 0, 0, 0, 1, 1, 1, 1));
}

TEST(DbscanTest, MeasuresInAllDimensions) {
  EXPECT_THAT(*Dbscan({0, 0, 3, 4, 3, 9}, 2, 5, 2), ElementsAre(0, 0, 0));
  EXPECT_THAT(*Dbscan({0, 0, 3, 4, 3, 9.5}, 2, 5, 2), ElementsAre(0, 0, -1));
}

TEST(DbscanTest, TakesNonfinitePointsForNoise) {
  EXPECT_THAT(*Dbscan({0, 1, std::nan("")}, 1, 1, 2), ElementsAre(0, 0, -1));
  EXPECT_THAT(*Dbscan({}, 2, 1, 1), IsEmpty());
}

TEST(DbscanTest, RefusesAnEpsOfZero) {
  const auto labels = Dbscan({0, 1}, 1, 0, 1);

  EXPECT_EQ(labels.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(labels.status()).fields[0].field, "eps");
}

}  // namespace
}  // namespace moescope::numerics
