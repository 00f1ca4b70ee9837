#include "moescope/numerics/mantel.h"

#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"

namespace moescope::numerics {
namespace {

using ::testing::ElementsAre;
using ::testing::IsNan;

absl::StatusOr<MantelResult> RunTest(const std::vector<double>& x,
                                  const std::vector<double>& y,
                                  std::int64_t size, std::int64_t draws = 2000,
                                  std::int64_t seed = 7, int threads = 1) {
  ThreadPool pool(threads);
  return MantelTest(x, y, size, {draws, seed}, pool, RunContext());
}

// map[i,j] = |a_i − a_j| with a_i = i² mod modulus: no two relabelings alike.
std::vector<double> Distances(std::int64_t size, std::int64_t modulus) {
  std::vector<double> map;
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = 0; j < size; ++j) {
      map.push_back(
          static_cast<double>(std::abs(i * i % modulus - j * j % modulus)));
    }
  }
  return map;
}

TEST(LowerTriangleTest, GoesRowByRow) {
  EXPECT_THAT(LowerTriangle({0, 1, 2, 3, 4, 5, 6, 7, 8}, 3),
              ElementsAre(3, 6, 7));
}

TEST(MantelTest, CountsAllRelabelingsOfThreeThings) {
  // Triangle (0, 0, 1) against itself: two of six relabelings keep the 1.
  const std::vector<double> map = {9, 0, 0, 0, 9, 1, 0, 1, 9};

  const MantelResult result = *RunTest(map, map, 3);

  EXPECT_DOUBLE_EQ(result.r, 1);
  EXPECT_EQ(result.relabelings, 6);
  EXPECT_DOUBLE_EQ(result.p, 2.0 / 6);
  EXPECT_DOUBLE_EQ(result.p_greater, 2.0 / 6);
  EXPECT_EQ(result.p_se, 0);
}

TEST(MantelTest, TellsTheTwoSidesApart) {
  const std::vector<double> map = {9, 0, 0, 0, 9, 1, 0, 1, 9};
  const std::vector<double> opposite = {9, 0, 0, 0, 9, -1, 0, -1, 9};

  const MantelResult result = *RunTest(map, opposite, 3);

  EXPECT_DOUBLE_EQ(result.r, -1);
  EXPECT_DOUBLE_EQ(result.p, 2.0 / 6);
  EXPECT_DOUBLE_EQ(result.p_greater, 1);
}

TEST(MantelTest, DrawsRelabelingsOfMoreThanEightThings) {
  const std::vector<double> map = Distances(12, 29);

  const MantelResult result = *RunTest(map, map, 12, 999);

  EXPECT_EQ(result.relabelings, 999);
  EXPECT_DOUBLE_EQ(result.r, 1);
  EXPECT_DOUBLE_EQ(result.p, 1.0 / 1000);
  EXPECT_NEAR(result.p_se, std::sqrt(1e-3 * 0.999 / 999), 1e-15);
}

TEST(MantelTest, ApproachesTheExactShare) {
  // One near pair among nine things, and a star of eight pairs: 8 of the 36
  // places that relabelling may put the pair to are in the star.
  std::vector<double> map(81, 0.0);
  map[1] = map[9] = 1;
  std::vector<double> star(81, 0.0);
  for (std::size_t i = 1; i < 9; ++i) {
    star[i] = star[9 * i] = 1;
  }

  const MantelResult result = *RunTest(map, star, 9, 20000);

  // 4 standard errors.
  EXPECT_NEAR(result.p_greater, 8.0 / 36, 4 * std::sqrt(0.222 * 0.778 / 2e4));
}

TEST(MantelTest, DependsOnTheSeedAndNotOnThreads) {
  const std::vector<double> x = Distances(20, 37);
  const std::vector<double> y = Distances(20, 41);

  const double one = RunTest(x, y, 20, 3000, 7, 1)->p;

  EXPECT_EQ(RunTest(x, y, 20, 3000, 7, 3)->p, one);
  EXPECT_NE(RunTest(x, y, 20, 3000, 8, 1)->p, one);
}

TEST(MantelTest, HasNoAnswerForAConstantMap) {
  for (const double value : {1.0, 0.1}) {  // with an exact mean and without
    const MantelResult result =
        *RunTest(std::vector<double>(16, value), Distances(4, 13), 4);

    EXPECT_THAT(result.r, IsNan());
    EXPECT_THAT(result.p, IsNan());
    EXPECT_THAT(result.p_greater, IsNan());
  }
}

TEST(MantelTest, RefusesTwoThings) {
  const auto result = RunTest({1, 2, 3, 4}, {1, 2, 3, 4}, 2);

  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(result.status()).fields[0].field, "size");
}

TEST(MantelTest, StopsWhenCancelled) {
  ThreadPool pool(1);
  const RunContext context;
  context.token().Cancel(absl::CancelledError("enough"));

  EXPECT_EQ(MantelTest(Distances(9, 29), Distances(9, 31), 9, {}, pool, context)
                .status()
                .code(),
            absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace moescope::numerics
