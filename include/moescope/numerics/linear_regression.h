#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace moescope::numerics {

struct LineFit {
  double slope = 0;
  double intercept = 0;
  double r = 0;        ///< Pearson's correlation, in [-1, 1].
  double p_value = 1;  ///< Two-sided, Student's t with n − 2 degrees.
};

/// Least squares line y = slope x + intercept.
/// Definition: slope = Σ(x−x̄)(y−ȳ) / Σ(x−x̄)²; p = P(|t| ≥ |r| √((n−2)/(1−r²)))
/// for r of two unrelated normal samples. A constant x has no line: slope,
/// intercept, r and p are NaN; a constant y has slope 0 and r 0. Anything that
/// is not finite makes all four NaN.
/// Precision: fp64, in two passes.
/// Errors: INVALID_ARGUMENT (different lengths; fewer than 3 points).
absl::StatusOr<LineFit> FitLine(absl::Span<const double> x,
                                absl::Span<const double> y);

/// P(|t| ≥ |statistic|) of Student's t. Definition: the regularised incomplete
/// beta function I_{ν/(ν+t²)}(ν/2, 1/2), by Lentz's continued fraction
/// (Numerical Recipes, 3rd edition, section 6.4). Relative precision 1e-12.
double StudentTwoSided(double statistic, double degrees);

/// `value` to `decimals` decimals, the exact binary value deciding, ties to
/// even: as Python's round().
double RoundDecimals(double value, int decimals);

}  // namespace moescope::numerics
