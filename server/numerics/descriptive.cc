#include "moescope/numerics/descriptive.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"

namespace moescope::numerics {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// numpy's _lerp: from the nearer end, so that it is monotonic and exact at
// both.
double Interpolate(double low, double high, double t) {
  const double difference = high - low;
  return t >= 0.5 ? high - difference * (1 - t) : low + difference * t;
}

// Puts the values of the given places, rising and all in [begin, end), where
// sorting would; the others only on their side of these. O(n log places).
void SelectPlaces(std::vector<double>& values, std::size_t begin,
                  std::size_t end, absl::Span<const std::size_t> places) {
  if (places.empty()) {
    return;
  }
  const std::size_t middle = places.size() / 2;
  const auto at = [&values](std::size_t place) {
    return values.begin() + static_cast<std::ptrdiff_t>(place);
  };
  std::nth_element(at(begin), at(places[middle]), at(end));
  SelectPlaces(values, begin, places[middle], places.first(middle));
  SelectPlaces(values, places[middle] + 1, end, places.subspan(middle + 1));
}

}  // namespace

std::int64_t CountNonfinite(absl::Span<const double> values) {
  return std::count_if(values.begin(), values.end(),
                       [](double x) { return !std::isfinite(x); });
}

bool IsConstant(absl::Span<const double> values) {
  return std::all_of(values.begin(), values.end(),
                     [&](double value) { return value == values[0]; });
}

Moments ComputeMoments(absl::Span<const double> values) {
  Moments moments;
  moments.count = static_cast<std::int64_t>(values.size());
  moments.nonfinite = CountNonfinite(values);
  if (values.empty() || moments.nonfinite > 0) {
    moments.mean = moments.std = moments.min = moments.max = kNan;
    return moments;
  }
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double x : values) {
    sum += x;
  }
  moments.mean = sum / n;
  double squares = 0;
  for (const double x : values) {
    squares += (x - moments.mean) * (x - moments.mean);
  }
  moments.std = std::sqrt(squares / n);
  const auto ends = std::minmax_element(values.begin(), values.end());
  moments.min = *ends.first;
  moments.max = *ends.second;
  return moments;
}

absl::StatusOr<std::vector<double>> Quantiles(
    absl::Span<const double> values, absl::Span<const double> probabilities) {
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    if (!(probabilities[i] >= 0 && probabilities[i] <= 1)) {
      return InvalidField(
          absl::StrCat("probabilities[", i, "]"),
          absl::StrCat(probabilities[i], " is outside [0, 1]"));
    }
  }
  if (values.empty() || CountNonfinite(values) > 0) {
    return std::vector<double>(probabilities.size(), kNan);
  }
  std::vector<std::pair<std::size_t, double>> positions;
  std::vector<std::size_t> places;
  const auto last = static_cast<double>(values.size() - 1);
  for (const double probability : probabilities) {
    const double position = probability * last;
    const double below = std::floor(position);
    const auto low = static_cast<std::size_t>(below);
    positions.emplace_back(low, position - below);
    places.push_back(low);
    places.push_back(std::min(low + 1, values.size() - 1));
  }
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  std::vector<double> selected(values.begin(), values.end());
  SelectPlaces(selected, 0, selected.size(), places);
  std::vector<double> quantiles;
  for (const auto& [low, beyond] : positions) {
    const std::size_t high = std::min(low + 1, selected.size() - 1);
    quantiles.push_back(Interpolate(selected[low], selected[high], beyond));
  }
  return quantiles;
}

}  // namespace moescope::numerics
