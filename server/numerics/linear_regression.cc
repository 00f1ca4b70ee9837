#include "moescope/numerics/linear_regression.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/numerics/descriptive.h"

namespace moescope::numerics {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double Mean(absl::Span<const double> values) {
  double sum = 0;
  for (const double value : values) {
    sum += value;
  }
  return sum / static_cast<double>(values.size());
}

// The continued fraction of the incomplete beta function, x < (a+1)/(a+b+2).
double BetaFraction(double a, double b, double x) {
  // Keeps denominators from being zero; far below any term.
  constexpr double kTiny = 1e-300;
  constexpr int kMaxTerms = 10000;
  const auto guarded = [](double v) { return std::fabs(v) < kTiny ? kTiny : v; };
  double c = 1;
  double d = 1 / guarded(1 - (a + b) * x / (a + 1));
  double value = d;
  for (int m = 1; m <= kMaxTerms; ++m) {
    const double k = m;
    const double even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k));
    d = 1 / guarded(1 + even * d);
    c = guarded(1 + even / c);
    value *= d * c;
    const double odd =
        -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1));
    d = 1 / guarded(1 + odd * d);
    c = guarded(1 + odd / c);
    value *= d * c;
    if (std::fabs(d * c - 1) < std::numeric_limits<double>::epsilon()) {
      break;
    }
  }
  return value;
}

// I_x(a, b); `y` = 1 − x, given apart because x may be 1 to fp64.
double RegularisedBeta(double a, double b, double x, double y) {
  if (x <= 0 || y <= 0) {
    return x <= 0 ? 0 : 1;
  }
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
               a * std::log(x) + b * std::log(y));
  return x < (a + 1) / (a + b + 2) ? front * BetaFraction(a, b, x) / a
                                   : 1 - front * BetaFraction(b, a, y) / b;
}

}  // namespace

double StudentTwoSided(double statistic, double degrees) {
  if (std::isnan(statistic)) {
    return kNan;
  }
  if (std::isinf(statistic)) {
    return 0;
  }
  const double squared = statistic * statistic;
  return RegularisedBeta(degrees / 2, 0.5, degrees / (degrees + squared),
                         squared / (degrees + squared));
}

double RoundDecimals(double value, int decimals) {
  if (!std::isfinite(value)) {
    return value;
  }
  // The largest number has 309 digits before the point.
  std::array<char, 400> text{};
  std::snprintf(text.data(), text.size(), "%.*f", std::min(decimals, 60), value);
  return std::strtod(text.data(), nullptr);
}

absl::StatusOr<LineFit> FitLine(absl::Span<const double> x,
                                absl::Span<const double> y) {
  constexpr std::size_t kFewest = 3;
  if (x.size() != y.size() || x.size() < kFewest) {
    return InvalidField("y", absl::StrCat("has ", y.size(), " values for ",
                                          x.size(), " of x; at least ",
                                          kFewest, " of each are needed"));
  }
  // Before the mean is rounded: what is constant has no digit to spare.
  if (IsConstant(x)) {
    return LineFit{kNan, kNan, kNan, kNan};
  }
  const double mean_x = Mean(x);
  const double mean_y = Mean(y);
  double xx = 0;
  double yy = 0;
  double xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double dx = x[i] - mean_x;
    const double dy = y[i] - mean_y;
    xx += dx * dx;
    yy += dy * dy;
    xy += dx * dy;
  }
  if (!(xx > 0) || !std::isfinite(xx) || !std::isfinite(yy)) {
    return LineFit{kNan, kNan, kNan, kNan};
  }
  LineFit fit;
  const bool is_flat = IsConstant(y);
  fit.slope = is_flat ? 0 : xy / xx;
  fit.intercept = is_flat ? y[0] : mean_y - fit.slope * mean_x;
  fit.r = yy > 0 && !is_flat ? std::clamp(xy / std::sqrt(xx) / std::sqrt(yy), -1.0, 1.0)
                 : 0.0;
  const double degrees = static_cast<double>(x.size() - 2);
  fit.p_value = StudentTwoSided(
      fit.r * std::sqrt(degrees / ((1 - fit.r) * (1 + fit.r))), degrees);
  return fit;
}

}  // namespace moescope::numerics
