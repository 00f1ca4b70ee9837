#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace moescope::numerics {

/// Letters: E groups (experts), F channels (neurons) of each, H thresholds, B
/// histogram bins (one less than edges), n kept tokens.
struct ActivationOptions {
  std::int64_t num_experts = 0;
  std::int64_t num_neurons = 0;
  /// |a| above these is counted; the first one defines `frequency`. At least
  /// one, each ≥ 0.
  std::vector<double> thresholds = {1e-3};
  /// Ascending bin edges; empty: no histogram. Else at least one.
  std::vector<double> histogram_edges;
  /// Largest values kept per neuron, with their tokens; 0: none.
  std::int64_t top_tokens = 0;
};

/// Values of one group on consecutive tokens.
struct ActivationBlock {
  std::int64_t expert = 0;
  /// Position of row 0; row r is token first_token + r.
  std::int64_t first_token = 0;
  const float* values = nullptr;  // [rows, F]
  std::int64_t rows = 0;
  /// Elements between rows, at least F.
  std::int64_t row_stride = 0;
  /// One per row, non-zero where the token was routed to this expert.
  absl::Span<const std::uint8_t> routed;  // [rows]
};

/// Per-neuron values over the rows seen, 0 where there were none.
struct NeuronMoments {
  std::vector<double> frequency;      // [E, F] share with |a| > thresholds[0]
  std::vector<double> mean;           // [E, F]
  std::vector<double> mean_abs;       // [E, F]
  std::vector<double> max;            // [E, F]
  std::vector<double> second_moment;  // [E, F] mean of a²
};

/// What the accumulator says, by the names of the analysis
/// `activation_statistics`.
struct ActivationStatistics {
  std::vector<std::int64_t> tokens;            // [E] rows seen
  std::vector<std::int64_t> routed_tokens;     // [E]
  std::vector<double> fraction;                // [H] share of |a| > threshold
  std::vector<double> fraction_routed;         // [H] 0 where none is routed
  std::vector<double> expert_fraction;         // [E, H]
  std::vector<double> expert_fraction_routed;  // [E, H]
  NeuronMoments neuron;
  NeuronMoments neuron_routed;
  /// Below the first edge, [edge_i, edge_i+1), at or above the last edge.
  std::vector<std::int64_t> histogram;  // [E, B + 2]
  /// Largest values first, ties to the earlier token; n is the smaller of
  /// top_tokens and the rows seen by the group that saw most. A place that no
  /// finite value took holds NaN and token −1.
  std::int64_t num_top = 0;
  std::vector<float> top_values;          // [E, F, n]
  std::vector<std::int64_t> top_tokens;   // [E, F, n]
  /// Values with ||a| − threshold| < 1e-6, over all thresholds: how far counts
  /// may move under rounding.
  std::int64_t near_threshold = 0;
  /// Values that are NaN or infinite.
  std::vector<std::int64_t> nonfinite;  // [E]
};

/// Streaming statistics of activations, over all rows and over routed rows.
///
/// Non-finite values are counted; they enter no threshold count, histogram bin
/// or list of top tokens, and the mean, mean_abs, max and second_moment of a
/// neuron that has one are NaN or infinite, never an average of the rest.
///
/// Precision: sums in fp64 in the order of the rows, squares exact in fp64.
/// So the result does not depend on how rows are cut into blocks, nor on the
/// instruction set.
/// Threads: Add may run at the same time for different experts; blocks of one
/// expert come one after another. Everything else alone.
class ActivationAccumulator {
 public:
  /// Errors: INVALID_ARGUMENT naming the option.
  static absl::StatusOr<std::unique_ptr<ActivationAccumulator>> Create(
      ActivationOptions options);
  ~ActivationAccumulator();

  const ActivationOptions& options() const;

  /// Takes a block in. Errors: OUT_OF_RANGE (expert); INVALID_ARGUMENT (sizes
  /// contradict each other); then nothing was taken.
  absl::Status Add(const ActivationBlock& block);

  /// Takes in all that `later` saw; sums become own + later, so merging in a
  /// fixed order gives fixed bits. Errors: INVALID_ARGUMENT (other options).
  absl::Status Merge(const ActivationAccumulator& later);

  ActivationStatistics Finish() const;

  /// All state as bytes, with a checksum. Little-endian.
  std::string Serialize() const;
  /// The accumulator that `bytes` came from, every bit of it.
  /// Errors: DATA_LOSS (damaged bytes, or those of other options); as Create.
  static absl::StatusOr<std::unique_ptr<ActivationAccumulator>> Deserialize(
      ActivationOptions options, absl::string_view bytes);

 private:
  struct State;
  explicit ActivationAccumulator(ActivationOptions options);
  std::unique_ptr<State> state_;
};

}  // namespace moescope::numerics
