#include "moescope/analysis/expert_similarity.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/parameters_internal.h"
#include "server/analysis/projection_reading_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/cosine.h"

namespace moescope::analysis {
namespace {

// What one chunk holds: a projection's cosines, or the router's.
struct Unit {
  std::int64_t layer = 0;
  std::optional<model::Projection> projection;
};

struct Levels {
  bool matrix = false;
  bool neuron_average = false;
  bool router = false;
};

Levels ParseLevels(const std::vector<std::string>& levels) {
  const auto has = [&](const char* name) {
    return std::find(levels.begin(), levels.end(), name) != levels.end();
  };
  return {has("matrix"), has("neuron_average"), has("router")};
}

absl::StatusOr<std::vector<Unit>> PlanUnits(
    const spec::ExpertSimilaritySpec& spec, const Levels& levels) {
  std::vector<Unit> units;
  for (const std::int64_t layer : spec.layers) {
    if (levels.matrix || levels.neuron_average) {
      for (const std::string& name : spec.projections) {
        MOESCOPE_ASSIGN_OR_RETURN(const model::Projection projection,
                                  internal::ParseProjection(name));
        units.push_back({layer, projection});
      }
    }
    if (levels.router) {
      units.push_back({layer, std::nullopt});
    }
  }
  return units;
}

// Appends "<name>" [N, N] and "<name>_participants" [N].
void AddCosines(const std::string& name, const std::vector<double>& cosines,
                const std::vector<std::int64_t>& participants,
                spec::Chunk& chunk) {
  const auto n = static_cast<std::int64_t>(participants.size());
  chunk.arrays.push_back(internal::MakeFloat32(name, {n, n}, cosines));
  chunk.arrays.push_back(spec::MakeArray(name + "_participants", {n},
                                         absl::MakeConstSpan(participants)));
}

absl::StatusOr<spec::Chunk> ProjectionChunk(
    const spec::ExpertSimilaritySpec& spec, const ModelInputs& inputs,
    const Unit& unit, const Levels& levels, ThreadPool& pool,
    const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<internal::Participant> participants,
      internal::FindParticipants(spec.participants, unit.layer, inputs));
  internal::ReadingWants wants;
  wants.gram = levels.matrix;
  wants.means = levels.neuron_average;
  MOESCOPE_ASSIGN_OR_RETURN(
      const internal::ProjectionReading reading,
      internal::ReadProjection(participants, *unit.projection, wants, pool,
                               context));
  const std::string prefix =
      internal::ProjectionPrefix(unit.layer, *unit.projection);
  spec::Chunk chunk;
  if (levels.matrix) {
    MOESCOPE_RETURN_IF_ERROR(
        internal::AddMatrixSimilarity(reading, prefix, chunk));
  }
  if (levels.neuron_average) {
    MOESCOPE_RETURN_IF_ERROR(
        internal::AddAverageSimilarity(reading, prefix, chunk).status());
  }
  internal::AddNonfinite(reading, prefix, chunk);
  return chunk;
}

absl::StatusOr<spec::Chunk> RouterChunk(const model::Checkpoint& checkpoint,
                                        std::int64_t layer) {
  spec::Chunk chunk;
  MOESCOPE_RETURN_IF_ERROR(
      internal::AddRouterSimilarity(checkpoint, layer,
                                    internal::LayerName(layer, ""), chunk)
          .status());
  return chunk;
}

std::vector<spec::ArrayDeclaration> Declarations() {
  const std::string prefix = "layer.{layer}.{projection}.";
  return {
      {prefix + "matrix",
       spec::DType::kFloat32,
       {"N", "N"},
       "1",
       "Cosine of the flattened projections of every pair of participants."},
      {prefix + "matrix_participants",
       spec::DType::kInt64,
       {"N"},
       "expert",
       "Who the rows of matrix are: expert numbers, -1 for S, -2 for F."},
      {prefix + "neuron_average",
       spec::DType::kFloat32,
       {"N", "N"},
       "1",
       "Cosine of the mean neurons of every pair of participants."},
      {prefix + "neuron_average_participants",
       spec::DType::kInt64,
       {"N"},
       "expert",
       "Who the rows of neuron_average are: expert numbers, -1 for S, -2 for "
       "F."},
      {prefix + "nonfinite",
       spec::DType::kInt64,
       {"N"},
       "1",
       "Weights that are NaN or infinite, by participant of neuron_average, or "
       "of matrix where that level alone was asked for."},
      {"layer.{layer}.router",
       spec::DType::kFloat32,
       {"E", "E"},
       "1",
       "Cosine of the router's rows of every pair of routed experts."},
  };
}

}  // namespace

namespace internal {

absl::Status AddMatrixSimilarity(const ProjectionReading& reading,
                                 const std::string& prefix,
                                 spec::Chunk& chunk) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<double> cosines,
      numerics::CosinesFromGram(
          reading.gram, static_cast<std::int64_t>(reading.fitting.size())));
  AddCosines(prefix + "matrix", cosines, reading.fitting, chunk);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> AddAverageSimilarity(
    const ProjectionReading& reading, const std::string& prefix,
    spec::Chunk& chunk) {
  const auto n = static_cast<std::int64_t>(reading.participants.size());
  const auto depth = static_cast<std::int64_t>(reading.means.size()) /
                     std::max<std::int64_t>(1, n);
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<double> cosines,
                            numerics::RowCosines(reading.means, n, depth));
  AddCosines(prefix + "neuron_average", cosines, reading.participants, chunk);
  return cosines;
}

absl::StatusOr<std::vector<double>> AddRouterSimilarity(
    const model::Checkpoint& checkpoint, std::int64_t layer,
    const std::string& prefix, spec::Chunk& chunk) {
  MOESCOPE_ASSIGN_OR_RETURN(const numerics::MatrixView router,
                            checkpoint.Router(layer));
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<double> cosines,
                            numerics::RowCosines(router));
  chunk.arrays.push_back(internal::MakeFloat32(
      prefix + "router", {router.rows, router.rows}, cosines));
  return cosines;
}

}  // namespace internal

spec::AnalysisInfo ExpertSimilarityInfo() {
  using Spec = spec::ExpertSimilaritySpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary =
      "How similar the experts of each layer are, from their weights.";
  info.definition =
      "Cosine of every pair of participants at three levels: of the flattened "
      "projection (matrix), of the mean neuron (neuron_average; neurons are "
      "rows of gate_proj and up_proj, columns of down_proj), and of the "
      "router's rows (router). The cosine with a zero vector is 0; the matrix "
      "level leaves out S and F where their width is not a routed expert's.";
  info.source =
      "arXiv 2406.18219, sections 4.1.1 (matrix), 4.1.2 and appendix D "
      "(neuron average), 4.2 and appendix E (router)";
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"layers", internal::kLayersMeaning},
       {"levels", "Among matrix, neuron_average, router; empty: all."},
       {"projections", internal::kProjectionsMeaning},
       {"participants", internal::kParticipantsMeaning},
       {"include_shared", internal::kIncludeSharedMeaning},
       {"baseline", internal::kBaselineMeaning}});
  info.schema.arrays = Declarations();
  return info;
}

absl::Status RunExpertSimilarity(const spec::ExpertSimilaritySpec& spec,
                                 const ModelInputs& inputs,
                                 const ResumePoint& resume, ThreadPool& pool,
                                 const RunContext& context, ChunkSink& sink) {
  if (inputs.checkpoint == nullptr) {
    return absl::InternalError("expert_similarity without a checkpoint");
  }
  const Levels levels = ParseLevels(spec.levels);
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<Unit> units,
                            PlanUnits(spec, levels));
  internal::ChunkEmitter emitter(resume, sink);
  Progress progress = {"expert similarity", 0,
                       static_cast<std::int64_t>(units.size()), "matrices"};
  for (const Unit& unit : units) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    ++progress.done;
    if (!emitter.wanted()) {
      // Not reported: it tells nothing of this run's pace.
      emitter.Skip();
      continue;
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        spec::Chunk chunk,
        unit.projection.has_value()
            ? ProjectionChunk(spec, inputs, unit, levels, pool, context)
            : RouterChunk(*inputs.checkpoint, unit.layer));
    MOESCOPE_RETURN_IF_ERROR(emitter.Emit(std::move(chunk)));
    context.ReportProgress(progress);
  }
  return absl::OkStatus();
}

}  // namespace moescope::analysis
