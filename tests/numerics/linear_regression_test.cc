#include "moescope/numerics/linear_regression.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"

namespace moescope::numerics {
namespace {

using ::testing::DoubleEq;
using ::testing::IsNan;

TEST(FitLineTest, FindsALineWithoutNoise) {
  const LineFit fit = *FitLine({0, 1, 2, 3}, {1, 3, 5, 7});

  EXPECT_DOUBLE_EQ(fit.slope, 2);
  EXPECT_DOUBLE_EQ(fit.intercept, 1);
  EXPECT_DOUBLE_EQ(fit.r, 1);
  EXPECT_LT(fit.p_value, 1e-14);
}

TEST(FitLineTest, AgreesWithATextbookExample) {
  const LineFit fit = *FitLine({1, 2, 3, 4, 5}, {2, 4, 5, 4, 5});

  EXPECT_DOUBLE_EQ(fit.slope, 0.6);
  EXPECT_NEAR(fit.intercept, 2.2, 1e-14);
  EXPECT_NEAR(fit.r, std::sqrt(0.6), 1e-15);
  // t = √4.5 with 3 degrees: 1 − (2/π)(atan u + u/(1 + u²)), u = t/√3.
  const double u = std::sqrt(1.5);
  EXPECT_NEAR(fit.p_value,
              1 - 2 / std::acos(-1.0) * (std::atan(u) + u / (1 + u * u)),
              1e-13);
}

TEST(FitLineTest, HasNoLineForConstantX) {
  const LineFit fit = *FitLine({2, 2, 2}, {1, 2, 3});

  EXPECT_THAT(fit.slope, IsNan());
  EXPECT_THAT(fit.r, IsNan());
  EXPECT_THAT(fit.p_value, IsNan());
}

TEST(FitLineTest, FindsNoCorrelationWithConstantY) {
  const LineFit fit = *FitLine({1, 2, 3}, {2, 2, 2});

  EXPECT_EQ(fit.slope, 0);
  EXPECT_EQ(fit.r, 0);
  EXPECT_DOUBLE_EQ(fit.p_value, 1);
}

// The mean of three times 0.1 is not 0.1.
TEST(FitLineTest, SeesThatAValueThatRoundsIsConstant) {
  EXPECT_THAT(FitLine({0.1, 0.1, 0.1}, {0, 0.01, 0.04})->slope, IsNan());

  const LineFit flat = *FitLine({0, 0.01, 0.04}, {0.1, 0.1, 0.1});
  EXPECT_EQ(flat.slope, 0);
  EXPECT_EQ(flat.intercept, 0.1);
  EXPECT_EQ(flat.r, 0);
}

TEST(FitLineTest, HandsNonfiniteValuesOn) {
  const double nan = std::numeric_limits<double>::quiet_NaN();

  EXPECT_THAT(FitLine({1, 2, nan}, {1, 2, 4})->r, IsNan());
  EXPECT_THAT(FitLine({1, 2, 3}, {1, HUGE_VAL, 4})->p_value, IsNan());
}

TEST(FitLineTest, RefusesTwoPoints) {
  const auto fit = FitLine({1, 2}, {1, 2});

  EXPECT_EQ(fit.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(fit.status()).fields[0].field, "y");
}

TEST(StudentTest, IsExactWhereAFormulaIsKnown) {
  // One degree: 1 − (2/π) atan t. Two degrees: 1 − t/√(2 + t²).
  EXPECT_NEAR(StudentTwoSided(1, 1), 0.5, 1e-15);
  EXPECT_NEAR(StudentTwoSided(-3, 2), 1 - 3 / std::sqrt(11.0), 1e-15);
  EXPECT_EQ(StudentTwoSided(0, 5), 1);
  EXPECT_EQ(StudentTwoSided(HUGE_VAL, 5), 0);
}

TEST(StudentTest, KeepsItsPrecisionFarOut) {
  // Two degrees, t = 1e6: 1 − t/√(2 + t²) = 1/t² − 3/(2 t⁴) + …
  EXPECT_NEAR(StudentTwoSided(1e6, 2) / (1e-12 - 1.5e-24), 1, 1e-12);
}

TEST(RoundDecimalsTest, LetsTheExactValueDecide) {
  EXPECT_EQ(RoundDecimals(0.125, 2), 0.12);
  EXPECT_EQ(RoundDecimals(0.375, 2), 0.38);
  EXPECT_EQ(RoundDecimals(0.145, 2), 0.14);  // stored as 0.14499999…
  EXPECT_EQ(RoundDecimals(0.5494785, 2), 0.55);
  EXPECT_EQ(RoundDecimals(-1.005, 2), -1);
  EXPECT_THAT(RoundDecimals(std::nan(""), 2), IsNan());
  EXPECT_THAT(RoundDecimals(1e300, 2), DoubleEq(1e300));
}

}  // namespace
}  // namespace moescope::numerics
