#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/analysis/regression_arrays_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/linear_regression.h"

namespace moescope::analysis::internal {
namespace {

// As the published tables.
constexpr int kPublishedDecimals = 2;

}  // namespace

absl::StatusOr<std::vector<double>> AddRegression(
    const RegressionMaps& maps, const std::vector<std::string>& projections,
    const numerics::MantelOptions& options, const std::string& prefix,
    ThreadPool& pool, const RunContext& context, spec::Chunk& chunk) {
  const std::vector<double> x =
      numerics::LowerTriangle(maps.router, maps.experts);
  const auto pairs = static_cast<std::int64_t>(x.size());
  chunk.arrays.push_back(spec::MakeCount(prefix + "pairs", pairs));
  chunk.arrays.push_back(spec::MakeScalar(
      prefix + "chance_r2", 1.0 / static_cast<double>(pairs - 1)));
  chunk.arrays.push_back(
      spec::MakeCount(prefix + "router_nonfinite", maps.router_nonfinite));
  std::vector<double> squares;
  for (std::size_t p = 0; p < projections.size(); ++p) {
    const std::vector<double>& map = maps.averages[p];
    const std::vector<double> y = numerics::LowerTriangle(map, maps.experts);
    MOESCOPE_ASSIGN_OR_RETURN(const numerics::LineFit fit,
                              numerics::FitLine(x, y));
    MOESCOPE_ASSIGN_OR_RETURN(const numerics::LineFit reverse,
                              numerics::FitLine(y, x));
    MOESCOPE_ASSIGN_OR_RETURN(
        const numerics::MantelResult mantel,
        numerics::MantelTest(map, maps.router, maps.experts, options, pool,
                             context));
    const double r2 = fit.r * fit.r;
    const std::string name = absl::StrCat(prefix, projections[p], ".");
    const std::pair<const char*, double> values[] = {
        {"slope", fit.slope},
        {"intercept", fit.intercept},
        {"reverse_slope", reverse.slope},
        {"reverse_intercept", reverse.intercept},
        {"r", fit.r},
        {"r2", r2},
        {"r2_rounded", numerics::RoundDecimals(r2, kPublishedDecimals)},
        {"p", fit.p_value},
        {"mantel_p", mantel.p},
        {"mantel_p_greater", mantel.p_greater},
        {"mantel_p_se", mantel.p_se}};
    for (const auto& [key, value] : values) {
      chunk.arrays.push_back(spec::MakeScalar(name + key, value));
    }
    chunk.arrays.push_back(
        spec::MakeCount(name + "mantel_relabelings", mantel.relabelings));
    chunk.arrays.push_back(
        spec::MakeArray(name + "nonfinite", {maps.experts},
                        absl::MakeConstSpan(maps.nonfinite[p])));
    squares.push_back(r2);
  }
  return squares;
}

absl::StatusOr<RegressionMeans> RegressionMeans::Create(
    std::size_t projections, absl::string_view state) {
  RegressionMeans means(projections);
  const std::size_t layer_bytes = projections * sizeof(double);
  if (state.size() % layer_bytes != 0) {
    return absl::DataLossError(
        absl::StrCat("saved state has ", state.size(), " bytes, not ",
                     layer_bytes, " for each layer"));
  }
  means.values_.resize(state.size() / sizeof(double));
  if (!state.empty()) {
    std::memcpy(means.values_.data(), state.data(), state.size());
  }
  return means;
}

void RegressionMeans::Add(std::int64_t index, const std::vector<double>& r2) {
  if (index == layers()) {
    values_.insert(values_.end(), r2.begin(), r2.end());
  }
}

std::string RegressionMeans::Encode() const {
  // Read back by the same numerics class alone, so of the same byte order.
  std::string bytes(values_.size() * sizeof(double), '\0');
  if (!bytes.empty()) {
    std::memcpy(bytes.data(), values_.data(), bytes.size());
  }
  return bytes;
}

void RegressionMeans::AddArrays(const std::string& prefix,
                                const std::vector<std::string>& projections,
                                spec::Chunk& chunk) const {
  for (std::size_t p = 0; p < projections_; ++p) {
    double rounded = 0;
    double exact = 0;
    std::int64_t count = 0;
    for (std::size_t i = p; i < values_.size(); i += projections_) {
      if (std::isfinite(values_[i])) {
        rounded += numerics::RoundDecimals(values_[i], kPublishedDecimals);
        exact += values_[i];
        ++count;
      }
    }
    // Over no layer: 0/0, not a number.
    const auto divisor = static_cast<double>(count);
    const std::string name = absl::StrCat(prefix, projections[p], ".");
    chunk.arrays.push_back(
        spec::MakeScalar(name + "mean_r2_rounded", rounded / divisor));
    chunk.arrays.push_back(spec::MakeScalar(name + "mean_r2", exact / divisor));
    chunk.arrays.push_back(spec::MakeCount(name + "mean_r2_layers", count));
  }
}

}  // namespace moescope::analysis::internal
