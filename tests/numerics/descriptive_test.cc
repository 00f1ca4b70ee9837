#include "moescope/numerics/descriptive.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"

namespace moescope::numerics {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsNan;
using ::testing::Pointwise;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(MomentsTest, AreExactForIntegers) {
  const Moments moments = ComputeMoments({2, 4, 4, 4, 5, 5, 7, 9});

  EXPECT_EQ(moments.count, 8);
  EXPECT_EQ(moments.mean, 5);
  EXPECT_EQ(moments.std, 2);
  EXPECT_EQ(moments.min, 2);
  EXPECT_EQ(moments.max, 9);
  EXPECT_EQ(moments.nonfinite, 0);
}

TEST(MomentsTest, KeepSmallDeviationsBesideALargeMean) {
  EXPECT_EQ(ComputeMoments({1e9 + 1, 1e9 + 3}).std, 1);
}

TEST(MomentsTest, AreNanAndSayWhyWhenAValueIsNotFinite) {
  const Moments moments = ComputeMoments({1, kNan, HUGE_VAL});

  EXPECT_EQ(moments.count, 3);
  EXPECT_EQ(moments.nonfinite, 2);
  EXPECT_THAT((std::vector<double>{moments.mean, moments.std, moments.min,
                                   moments.max}),
              Each(IsNan()));
}

TEST(MomentsTest, OfNothingAreNan) {
  const Moments moments = ComputeMoments({});

  EXPECT_EQ(moments.count, 0);
  EXPECT_THAT(moments.mean, IsNan());
}

TEST(QuantilesTest, InterpolateBetweenNeighbours) {
  EXPECT_THAT(*Quantiles({4, 1, 3, 2}, {0, 0.25, 0.5, 0.75, 1}),
              ElementsAre(1, 1.75, 2.5, 3.25, 4));
}

// numpy.quantile([0.1, 0.7, 0.2], [0.3, 0.9]) prints exactly these.
TEST(QuantilesTest, RoundAsNumpy) {
  EXPECT_THAT(*Quantiles({0.1, 0.7, 0.2}, {0.3, 0.9}),
              ElementsAre(0.1 + (0.2 - 0.1) * 0.6,
                          0.7 - (0.7 - 0.2) * (1 - 0.8)));
}

TEST(QuantilesTest, AreThoseOfTheSortedValuesAtEveryPlaceAsked) {
  constexpr std::size_t kCount = 101;  // position q · 100
  std::vector<double> values;
  for (std::size_t i = 0; i < kCount; ++i) {
    values.push_back(static_cast<double>(i * 37 % kCount / 2));  // pairs
  }
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> probabilities;
  std::vector<double> expected;
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::size_t place = i * 58 % kCount;
    probabilities.push_back(static_cast<double>(place) / 100);
    expected.push_back(sorted[place]);
  }

  EXPECT_THAT(*Quantiles(values, probabilities),
              Pointwise(DoubleNear(1e-12), expected));
}

TEST(QuantilesTest, OfOneValueAreThatValue) {
  EXPECT_THAT(*Quantiles({7}, {0, 0.5, 1}), ElementsAre(7, 7, 7));
}

TEST(QuantilesTest, AreNanWithoutValuesOrWithANonfiniteOne) {
  EXPECT_THAT(*Quantiles({}, {0.5}), Each(IsNan()));
  EXPECT_THAT(*Quantiles({1, kNan}, {0, 1}), Each(IsNan()));
}

TEST(QuantilesTest, RefuseWhatIsNoProbability) {
  const auto quantiles = Quantiles({1}, {0.5, 1.5});

  EXPECT_EQ(quantiles.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(quantiles.status().message(),
            "probabilities[1]: 1.5 is outside [0, 1]");
}

}  // namespace
}  // namespace moescope::numerics
