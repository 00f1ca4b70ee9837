#include "moescope/numerics/matching_null.h"

#include <cmath>

#include <gtest/gtest.h>

#include "server/numerics/matching_null_internal.h"

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
  EXPECT_EQ(null.single_sd_error, 0);
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

// Of the standard deviation of n values: sd / √(2 (n − 1)).
double SdError(double sd, double n) { return sd / std::sqrt(2 * (n - 1)); }

// How many of 8 seeds extrapolate from 256 neurons to what is drawn of 1024,
// within the errors that they state and three standard errors of what is drawn.
struct Covered {
  int means = 0;
  int single_sds = 0;
  int joint_sds = 0;
};

Covered CountCovered(std::int64_t depth) {
  constexpr double kDraws = 40;
  ThreadPool pool(2);
  const MatchingNull drawn =
      *SimulateMatchingNull(1024, depth, 40, 100, pool, RunContext());
  Covered covered;
  for (std::int64_t seed = 0; seed < 8; ++seed) {
    const MatchingNull null = *internal::SimulateMatchingNull(
        1024, depth, 10, seed, 256, pool, RunContext());
    EXPECT_EQ(null.simulated_width, 256);
    covered.means += std::fabs(null.single_mean - drawn.single_mean) <=
                     null.single_error +
                         3 * drawn.single_sd / std::sqrt(3 * kDraws);
    covered.single_sds += std::fabs(null.single_sd - drawn.single_sd) <=
                          null.single_sd_error +
                              3 * SdError(drawn.single_sd, 3 * kDraws);
    covered.joint_sds += std::fabs(null.joint_sd - drawn.joint_sd) <=
                         null.joint_sd_error +
                             3 * SdError(drawn.joint_sd, kDraws);
    // An error beyond the value would say nothing.
    EXPECT_LT(null.single_sd_error, null.single_sd);
  }
  return covered;
}

TEST(MatchingNullTest, StatesHowFarAnExtrapolatedDeviationIsOff) {
  const Covered covered = CountCovered(64);

  EXPECT_EQ(covered.means, 8);
  EXPECT_EQ(covered.single_sds, 8);
  EXPECT_EQ(covered.joint_sds, 8);
}

TEST(MatchingNullTest, ErrorsOfADeviationFallWithTheNumberOfDraws) {
  ThreadPool pool(2);
  const MatchingNull few = *internal::SimulateMatchingNull(
      128, 16, 8, 0, 64, pool, RunContext());
  const MatchingNull many = *internal::SimulateMatchingNull(
      128, 16, 512, 0, 64, pool, RunContext());

  EXPECT_GE(few.single_sd_error, 2 * SdError(few.single_sd, 24));
  EXPECT_LT(many.single_sd_error, few.single_sd_error);
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
