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
#include "server/analysis/participants_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/cosine.h"
#include "moescope/numerics/gram.h"

namespace moescope::analysis {
namespace {

using internal::LayerName;
using internal::Participant;

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

// What the participants of a unit have in common.
struct Comparison {
  std::vector<std::int64_t> matrix_participants;  // [M], M ≤ N
  std::vector<double> gram;                       // [M, M]
  std::vector<double> means;                      // [N, D]
  std::vector<std::int64_t> nonfinite;            // [N]
};

// Puts what one reading of `group` gave to the places of its members.
void Place(const numerics::GramResult& read,
           const std::vector<std::size_t>& group, bool mean_is_column,
           Comparison& comparison) {
  const std::vector<double>& means =
      mean_is_column ? read.mean_column : read.mean_row;
  const std::size_t depth = means.size() / group.size();
  for (std::size_t i = 0; i < group.size(); ++i) {
    comparison.nonfinite[group[i]] = read.nonfinite[i];
    std::copy_n(means.begin() + static_cast<std::ptrdiff_t>(i * depth), depth,
                comparison.means.begin() +
                    static_cast<std::ptrdiff_t>(group[i] * depth));
  }
}

// Reads every participant's matrix once: those of a routed expert's shape
// together, the others, which have only a mean, one by one.
absl::StatusOr<Comparison> Compare(const std::vector<Participant>& participants,
                                   model::Projection projection,
                                   const Levels& levels, std::int64_t depth,
                                   ThreadPool& pool,
                                   const RunContext& context) {
  const bool down = projection == model::Projection::kDown;
  numerics::GramOptions options;
  options.gram = levels.matrix;
  options.mean_row = levels.neuron_average && !down;
  options.mean_column = levels.neuron_average && down;
  Comparison comparison;
  comparison.nonfinite.resize(participants.size());
  if (levels.neuron_average) {
    comparison.means.resize(participants.size() *
                            static_cast<std::size_t>(depth));
  }
  std::vector<std::size_t> group;
  std::vector<numerics::MatrixView> views;
  for (std::size_t i = 0; i < participants.size(); ++i) {
    const numerics::MatrixView& view = participants[i].weights[projection];
    if (participants[i].routed_shape) {
      group.push_back(i);
      views.push_back(view);
      comparison.matrix_participants.push_back(participants[i].number);
      continue;
    }
    numerics::GramOptions alone = options;
    alone.gram = false;
    MOESCOPE_ASSIGN_OR_RETURN(
        const numerics::GramResult read,
        numerics::ComputeGram(absl::MakeConstSpan(&view, 1), alone, pool,
                              context));
    Place(read, {i}, down, comparison);
  }
  if (!group.empty()) {
    MOESCOPE_ASSIGN_OR_RETURN(
        numerics::GramResult read,
        numerics::ComputeGram(views, options, pool, context));
    Place(read, group, down, comparison);
    comparison.gram = std::move(read.gram);
  }
  return comparison;
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
      std::vector<Participant> participants,
      internal::FindParticipants(spec.participants, unit.layer, inputs));
  if (!levels.neuron_average) {
    // Nothing is asked of the others: they are not even read.
    participants.erase(
        std::remove_if(participants.begin(), participants.end(),
                       [](const Participant& p) { return !p.routed_shape; }),
        participants.end());
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const Comparison comparison,
      Compare(participants, *unit.projection, levels,
              inputs.checkpoint->config().width, pool, context));
  const std::string prefix = LayerName(
      unit.layer, absl::StrCat(model::ProjectionName(*unit.projection), "."));
  spec::Chunk chunk;
  if (levels.matrix) {
    MOESCOPE_ASSIGN_OR_RETURN(
        const std::vector<double> cosines,
        numerics::CosinesFromGram(
            comparison.gram,
            static_cast<std::int64_t>(comparison.matrix_participants.size())));
    AddCosines(prefix + "matrix", cosines, comparison.matrix_participants,
               chunk);
  }
  const auto n = static_cast<std::int64_t>(participants.size());
  if (levels.neuron_average) {
    std::vector<std::int64_t> numbers;
    for (const Participant& participant : participants) {
      numbers.push_back(participant.number);
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        const std::vector<double> cosines,
        numerics::RowCosines(comparison.means, n,
                             inputs.checkpoint->config().width));
    AddCosines(prefix + "neuron_average", cosines, numbers, chunk);
  }
  chunk.arrays.push_back(spec::MakeArray(
      prefix + "nonfinite", {n}, absl::MakeConstSpan(comparison.nonfinite)));
  return chunk;
}

absl::StatusOr<spec::Chunk> RouterChunk(const model::Checkpoint& checkpoint,
                                        std::int64_t layer) {
  MOESCOPE_ASSIGN_OR_RETURN(const numerics::MatrixView router,
                            checkpoint.Router(layer));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<double> cosines,
                            numerics::RowCosines(router));
  spec::Chunk chunk;
  chunk.arrays.push_back(internal::MakeFloat32(
      LayerName(layer, "router"), {router.rows, router.rows}, cosines));
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
    if (emitter.wanted()) {
      MOESCOPE_ASSIGN_OR_RETURN(
          spec::Chunk chunk,
          unit.projection.has_value()
              ? ProjectionChunk(spec, inputs, unit, levels, pool, context)
              : RouterChunk(*inputs.checkpoint, unit.layer));
      MOESCOPE_RETURN_IF_ERROR(emitter.Emit(std::move(chunk)));
    } else {
      emitter.Skip();
    }
    ++progress.done;
    context.ReportProgress(progress);
  }
  return absl::OkStatus();
}

}  // namespace moescope::analysis
