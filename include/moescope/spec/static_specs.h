#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace moescope::spec {

// Specs of analyses of weights alone; what every Spec declares stands in
// moescope/spec/analysis_spec.h, where AnalysisSpec names them all.

/// Whether experts with similar router rows have similar weights.
struct RouterRegressionSpec {
  static constexpr absl::string_view kName = "router_regression";
  static constexpr int kVersion = 2;

  std::string model;
  std::vector<std::int64_t> layers;      ///< MoE layers, rising; empty: all.
  std::vector<std::string> projections;  ///< Among ProjectionNames(); empty: all.
  /// Relabelings drawn for the Mantel test of more than 8 experts.
  std::int64_t draws = 10000;
  std::int64_t seed = 0;

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("layers", self.layers);
    visit("projections", self.projections);
    visit("draws", self.draws);
    visit("seed", self.seed);
  }
};

/// Experts as points: principal components of flattened projections.
struct MatrixPcaSpec {
  static constexpr absl::string_view kName = "matrix_pca";
  static constexpr int kVersion = 1;

  std::string model;
  std::vector<std::int64_t> layers;       ///< MoE layers, rising; empty: all.
  std::vector<std::string> projections;   ///< Among ProjectionNames(); empty: all.
  std::vector<std::string> participants;  ///< As in ExpertSimilaritySpec.
  bool include_shared = false;
  std::string baseline;
  /// Distance and number of points that make a DBSCAN cluster of scores; eps 0:
  /// no labels.
  double eps = 50;
  std::int64_t min_samples = 5;

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("layers", self.layers);
    visit("projections", self.projections);
    visit("participants", self.participants);
    visit("include_shared", self.include_shared);
    visit("baseline", self.baseline);
    visit("eps", self.eps);
    visit("min_samples", self.min_samples);
  }
};

/// Neurons as points: principal components of all participants' neurons.
struct NeuronPcaSpec {
  static constexpr absl::string_view kName = "neuron_pca";
  static constexpr int kVersion = 1;

  std::string model;
  std::vector<std::int64_t> layers;       ///< MoE layers, rising; empty: all.
  std::vector<std::string> projections;   ///< Among ProjectionNames(); empty: all.
  std::vector<std::string> participants;  ///< As in ExpertSimilaritySpec.
  bool include_shared = false;
  std::string baseline;
  std::int64_t dims = 2;  ///< Components, 2 or 3.
  /// What becomes of the scores, among PcaOutputs(); empty: scores.
  std::vector<std::string> outputs;
  std::int64_t sample_size = 2000;  ///< Neurons in "sample".
  std::int64_t bins = 64;           ///< Bins per axis in "bins".
  std::int64_t seed = 0;            ///< Of the sample.

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("layers", self.layers);
    visit("projections", self.projections);
    visit("participants", self.participants);
    visit("include_shared", self.include_shared);
    visit("baseline", self.baseline);
    visit("dims", self.dims);
    visit("outputs", self.outputs);
    visit("sample_size", self.sample_size);
    visit("bins", self.bins);
    visit("seed", self.seed);
  }
};

/// Similarities at three levels, router regression, neuron norms and matrix PCA
/// of all experts from one reading of the weights.
struct StaticSuiteSpec {
  static constexpr absl::string_view kName = "static_suite";
  static constexpr int kVersion = 2;

  std::string model;
  std::vector<std::int64_t> layers;       ///< MoE layers, rising; empty: all.
  std::vector<std::string> projections;   ///< Among ProjectionNames(); empty: all.
  std::vector<std::string> participants;  ///< As in ExpertSimilaritySpec.
  bool include_shared = false;
  std::string baseline;
  std::vector<double> quantiles = {0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};
  std::int64_t draws = 10000;     ///< As in RouterRegressionSpec.
  std::int64_t seed = 0;          ///< As in RouterRegressionSpec.
  double eps = 50;                ///< As in MatrixPcaSpec.
  std::int64_t min_samples = 5;   ///< As in MatrixPcaSpec.

  template <class Self, class Visitor>
  static void VisitFields(Self& self, Visitor&& visit) {
    visit("model", self.model);
    visit("layers", self.layers);
    visit("projections", self.projections);
    visit("participants", self.participants);
    visit("include_shared", self.include_shared);
    visit("baseline", self.baseline);
    visit("quantiles", self.quantiles);
    visit("draws", self.draws);
    visit("seed", self.seed);
    visit("eps", self.eps);
    visit("min_samples", self.min_samples);
  }
};

/// "scores", "sample", "bins".
const std::vector<std::string>& PcaOutputs();

}  // namespace moescope::spec
