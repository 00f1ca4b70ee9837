#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/analysis/participants_internal.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/shapes.h"
#include "moescope/spec/array.h"
#include "moescope/spec/schema.h"

// What analyses of weights compute from one reading of a projection in one
// layer, and the arrays that they make of it: static_suite makes all of them.
namespace moescope::analysis::internal {

struct ReadingWants {
  bool gram = false;
  bool standardised_gram = false;
  bool means = false;
  bool norms = false;
};

/// N participants, of which M have a routed expert's shape. What was not wanted
/// is empty; without `means` the other N − M are not read and not counted.
struct ProjectionReading {
  std::vector<std::int64_t> participants;      // [N]
  std::vector<std::int64_t> nonfinite;         // [N]
  std::vector<std::int64_t> fitting;           // [M] numbers of those that fit
  std::vector<std::int64_t> fitting_nonfinite; // [M]
  std::vector<double> gram;                    // [M, M]
  std::vector<double> standardised_gram;       // [M, M]
  std::vector<double> means;                   // [N, D] mean neurons
  std::vector<double> norms;                   // [M, F] of neurons
};

/// Errors: those of numerics::ComputeGram. Threads: uses `pool`.
absl::StatusOr<ProjectionReading> ReadProjection(
    const std::vector<Participant>& participants, model::Projection projection,
    const ReadingWants& wants, ThreadPool& pool, const RunContext& context);

/// `<prefix>matrix` with its participants.
absl::Status AddMatrixSimilarity(const ProjectionReading& reading,
                                 const std::string& prefix,
                                 spec::Chunk& chunk);

/// `<prefix>neuron_average` with its participants; returns the cosines [N, N].
absl::StatusOr<std::vector<double>> AddAverageSimilarity(
    const ProjectionReading& reading, const std::string& prefix,
    spec::Chunk& chunk);

/// `<prefix>router`; returns the cosines [E, E].
absl::StatusOr<std::vector<double>> AddRouterSimilarity(
    const model::Checkpoint& checkpoint, std::int64_t layer,
    const std::string& prefix, spec::Chunk& chunk);

/// `<prefix>nonfinite` of the N participants.
void AddNonfinite(const ProjectionReading& reading, const std::string& prefix,
                  spec::Chunk& chunk);

/// `<prefix>norms` with their summaries, Frobenius norms and, unless null,
/// effective ranks [M].
absl::Status AddNormStatistics(const ProjectionReading& reading,
                               const std::vector<double>& quantiles,
                               const std::vector<double>* effective_ranks,
                               const std::string& prefix, ThreadPool& pool,
                               spec::Chunk& chunk);

/// `<prefix>scores` … `dbscan_labels` of matrix_pca.
absl::Status AddMatrixComponents(const ProjectionReading& reading, double eps,
                                 std::int64_t min_samples,
                                 const std::string& prefix,
                                 spec::Chunk& chunk);

/// The units of an analysis that answers with a chunk per layer and projection.
struct ProjectionUnits {
  const char* stage = "";  ///< For progress.
  const std::vector<std::int64_t>& layers;
  const std::vector<std::string>& projections;
};

/// Emits what `make` gives for each unit, layer by layer; units whose chunks
/// are there already are not made. Looks at `context` before each.
/// Errors: CANCELLED, DEADLINE_EXCEEDED; those of `make` and `sink`.
absl::Status EmitPerProjection(
    const ProjectionUnits& units, const ResumePoint& resume,
    const RunContext& context, ChunkSink& sink,
    const std::function<absl::StatusOr<spec::Chunk>(
        std::int64_t layer, model::Projection projection)>& make);

/// "layer.<layer>.<projection>.".
std::string ProjectionPrefix(std::int64_t layer, model::Projection projection);

/// `declarations` with `prefix` before their patterns.
std::vector<spec::ArrayDeclaration> Prefixed(
    const std::string& prefix,
    std::vector<spec::ArrayDeclaration> declarations);

}  // namespace moescope::analysis::internal
