#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// Every analysis, in the order of spec::AnalysisSpec. Threads: safe.
const std::vector<spec::AnalysisInfo>& Catalogue();

/// Runs the analysis that `spec` is of. `spec` must be normalised against the
/// models of `inputs` (spec::Normalise). Content and order of the chunks depend
/// on the Spec alone; every chunk fits the analysis's schema.
/// Errors: those of the analysis; CANCELLED, DEADLINE_EXCEEDED as `context`
/// says; whatever `sink` returns.
absl::Status Run(const spec::AnalysisSpec& spec, const ModelInputs& inputs,
                 const ResumePoint& resume, ThreadPool& pool,
                 const RunContext& context, ChunkSink& sink);

/// Whether the analysis needs inputs.model, a checkpoint ready for passes.
bool NeedsModel(const spec::AnalysisSpec& spec);

/// OK, or, for an analysis that needs a forward pass, why `checkpoint` cannot
/// make one: its forward_status, about field "spec.model".
absl::Status RequireForward(const spec::AnalysisSpec& spec,
                            const model::Checkpoint& checkpoint);

/// What spec::Normalise must know of a checkpoint that is called `name`.
spec::ModelFacts FactsOf(const model::Checkpoint& checkpoint,
                         absl::string_view name);

/// Where a run will take place, as far as its cost depends on it.
struct ComputePlace {
  std::string device = "cpu";  ///< As model::ResolveDevice returns it.
  int threads = 0;             ///< That compute; 0: one per core.
  /// Rate of fp32 products of one thread (numerics::MeasureGemmGflops); the
  /// default is a core of middling speed.
  double gemm_gflops = 60;
};

/// What a run will take. Orders of magnitude, to choose by, not to bill by.
struct CostEstimate {
  std::int64_t bytes_read = 0;  ///< Weight bytes, each reading counted.
  double flops = 0;             ///< A multiplication and an addition are two.
  /// Beside the weights: what the run itself allocates at its peak. Of a pass:
  /// model::MemoryEstimate of its longest block.
  std::int64_t memory_bytes = 0;
  /// Beside that on the device of the place, where it is not the host, of an
  /// analysis that works there without a forward pass.
  std::int64_t device_bytes = 0;
  /// On the threads of the place. What is not in the page cache now is read from
  /// a disk, at 1 GB/s; other rates: server/analysis/cost.cc.
  double seconds = 0;
};

/// Definition, for a normalised Spec; b bytes per weight, P projections, Q the
/// chosen layers, N participants (all counted with a routed expert's width):
///   expert_similarity: bytes Q P N F D b; flops N (N + 1) per coordinate
///     (matrix) plus N (neuron_average); router: E D b, E² D per layer.
///   neuron_weight_statistics: bytes as above, again for effective_rank; flops
///     2 per weight, and for the rank F D m + 4/3 m³ per matrix, m = min(F, D).
///   router_regression: bytes Q P E F D b and those of the router; flops 1 per
///     weight, E² D per router, draws E (E - 1) per layer and projection.
///   matrix_pca: bytes Q P N F D b; flops N (N + 7) per coordinate.
///   neuron_pca: twice these bytes; flops D (D + 2 dims) per neuron.
///   static_suite: bytes once, flops of its parts.
///   neuron_matching: 2 F² D flops per layer, pair and projection (three more
///     for joint), and as much per draw of the null up to its widest drawn.
///   routing_trace, activation_statistics: 2 flops per token and weight that
///     meets it, up to the last chosen layer (activations: all experts), plus
///     attention 4 D per token pair; bytes: the weights once per block.
/// seconds is the longer of reading from disk and computing.
CostEstimate EstimateCost(const spec::AnalysisSpec& spec,
                          const model::Checkpoint& checkpoint,
                          const ComputePlace& place = ComputePlace());

}  // namespace moescope::analysis
