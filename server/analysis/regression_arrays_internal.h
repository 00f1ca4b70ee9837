#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/mantel.h"
#include "moescope/spec/array.h"

namespace moescope::analysis::internal {

/// The maps of one layer over E routed experts, [E, E] each.
struct RegressionMaps {
  std::int64_t experts = 0;
  std::vector<double> router;
  /// Of the projections in the order of their names.
  std::vector<std::vector<double>> averages;
  /// Elements that are NaN or infinite: of the router, and of every expert's
  /// projections. [projections, E]
  std::int64_t router_nonfinite = 0;
  std::vector<std::vector<std::int64_t>> nonfinite;
};

/// `<prefix>pairs`, `chance_r2`, `<projection>.slope` …; returns r² of each
/// projection.
absl::StatusOr<std::vector<double>> AddRegression(
    const RegressionMaps& maps, const std::vector<std::string>& projections,
    const numerics::MantelOptions& options, const std::string& prefix,
    ThreadPool& pool, const RunContext& context, spec::Chunk& chunk);

/// r² of every layer so far, which the means at the end are made of.
class RegressionMeans {
 public:
  /// `state` is Encode()'s of an earlier run, or empty.
  /// Errors: DATA_LOSS when it is no such state.
  static absl::StatusOr<RegressionMeans> Create(std::size_t projections,
                                                absl::string_view state);

  std::int64_t layers() const {
    return static_cast<std::int64_t>(values_.size() / projections_);
  }
  /// Sets r² [projections] of layer `index`; layers come in order, those that
  /// are there already are left alone.
  void Add(std::int64_t index, const std::vector<double>& r2);
  std::string Encode() const;
  /// `<prefix><projection>.mean_r2_rounded` and `.mean_r2` of the layers whose r²
  /// is a number, and `.mean_r2_layers`, how many they are.
  void AddArrays(const std::string& prefix,
                 const std::vector<std::string>& projections,
                 spec::Chunk& chunk) const;

 private:
  explicit RegressionMeans(std::size_t projections)
      : projections_(projections) {}

  std::size_t projections_;
  std::vector<double> values_;  // [layers, projections]
};

}  // namespace moescope::analysis::internal
