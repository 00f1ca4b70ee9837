#include "moescope/numerics/matching_null.h"

#include <cmath>

#include <gtest/gtest.h>

namespace moescope::numerics {
namespace {

constexpr double kPi = 3.141592653589793;

absl::StatusOr<MatchingNull> Simulate(std::int64_t width, std::int64_t depth,
                                      std::int64_t draws, std::int64_t seed,
                                      int threads = 1) {
  ThreadPool pool(threads);
  return SimulateMatchingNull(width, depth, draws, seed, pool, RunContext());
}

TEST(MatchingNullTest, HasNoChoiceWithOneNeuron) {
  constexpr double kDepth = 16;
  constexpr double kDraws = 1000;

  const MatchingNull null = *Simulate(1, 16, 1000, 0);

  // A cosine of Gaussian vectors has mean 0 and variance 1 / depth, the mean of
  // three a third of that; four standard errors.
  const double single_sd = 1 / std::sqrt(kDepth);
  const double joint_sd = single_sd / std::sqrt(3.0);
  EXPECT_NEAR(null.single_mean, 0, 4 * single_sd / std::sqrt(3 * kDraws));
  EXPECT_NEAR(null.joint_mean, 0, 4 * joint_sd / std::sqrt(kDraws));
  EXPECT_NEAR(null.single_sd, single_sd, 4 * single_sd / std::sqrt(6 * kDraws));
  EXPECT_NEAR(null.joint_sd, joint_sd, 4 * joint_sd / std::sqrt(2 * kDraws));
  EXPECT_EQ(null.simulated_width, 1);
  EXPECT_EQ(null.single_error, 0);
}

TEST(MatchingNullTest, OfTwoNeuronsTheBetterOrderIsTaken) {
  constexpr double kDepth = 256;
  constexpr double kDraws = 2000;

  const MatchingNull null = *Simulate(2, 256, 2000, 3);

  // The mean of the larger of two sums of two nearly Gaussian cosines is the
  // sums' deviation over √π, and half of it is a neuron's. Its variance is
  // (1 - 1/π) of theirs; four standard errors, and 1 / depth for not being
  // Gaussian.
  const double expected = std::sqrt(2 / kDepth) / std::sqrt(kPi) / 2;
  const double sd = std::sqrt(2 / kDepth * (1 - 1 / kPi)) / 2;
  EXPECT_NEAR(null.single_mean, expected,
              4 * sd / std::sqrt(3 * kDraws) + expected / kDepth);
  EXPECT_NEAR(null.joint_mean, expected / std::sqrt(3.0),
              4 * sd / std::sqrt(3 * kDraws) + expected / kDepth);
}

TEST(MatchingNullTest, DependsOnTheSeedAloneNotOnThreads) {
  const MatchingNull one = *Simulate(20, 8, 5, 1, 1);
  const MatchingNull three = *Simulate(20, 8, 5, 1, 3);
  const MatchingNull other = *Simulate(20, 8, 5, 2, 1);

  EXPECT_EQ(one.single_mean, three.single_mean);
  EXPECT_EQ(one.joint_sd, three.joint_sd);
  EXPECT_NE(one.single_mean, other.single_mean);
}

TEST(MatchingNullTest, RefusesWhatHasNoDeviation) {
  EXPECT_EQ(Simulate(4, 4, 1, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Simulate(0, 4, 2, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Simulate(4, 4, 2, -1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace moescope::numerics
