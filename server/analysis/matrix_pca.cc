#include "moescope/analysis/matrix_pca.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/parameters_internal.h"
#include "server/analysis/projection_reading_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/dbscan.h"
#include "moescope/numerics/principal_components.h"

namespace moescope::analysis {
namespace {

constexpr std::int64_t kComponents = 2;

std::vector<spec::ArrayDeclaration> Declarations() {
  const std::string prefix = "layer.{layer}.{projection}.";
  const auto real = spec::DType::kFloat64;
  const auto count = spec::DType::kInt64;
  return {
      {prefix + "participants",
       count,
       {"N"},
       "expert",
       "Who the rows are: expert numbers, -1 for S, -2 for F."},
      {prefix + "scores",
       spec::DType::kFloat32,
       {"N", "2"},
       "1",
       "Coordinates of each participant along the first two components."},
      {prefix + "explained_ratio",
       real,
       {"2"},
       "1",
       "Shares of the variance of these components."},
      {prefix + "spectrum",
       real,
       {"*"},
       "1",
       "Shares of the variance of the first min(N, 16) components."},
      {prefix + "sign_gap",
       real,
       {"2"},
       "1",
       "1 - second largest |score| / largest; near 0 the sign is arbitrary."},
      {prefix + "dbscan_labels",
       count,
       {"N"},
       "cluster",
       "Clusters of the scores, numbered from 0; -1 is noise."},
      {prefix + "nonfinite",
       count,
       {"N"},
       "1",
       "Weights that are NaN or infinite; one makes all scores NaN."},
  };
}

absl::StatusOr<spec::Chunk> ProjectionChunk(const spec::MatrixPcaSpec& spec,
                                            const ModelInputs& inputs,
                                            std::int64_t layer,
                                            model::Projection projection,
                                            ThreadPool& pool,
                                            const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<internal::Participant> participants,
      internal::FindParticipants(spec.participants, layer, inputs));
  internal::ReadingWants wants;
  wants.standardised_gram = true;
  MOESCOPE_ASSIGN_OR_RETURN(
      const internal::ProjectionReading reading,
      internal::ReadProjection(participants, projection, wants, pool, context));
  spec::Chunk chunk;
  MOESCOPE_RETURN_IF_ERROR(internal::AddMatrixComponents(
      reading, spec.eps, spec.min_samples,
      internal::ProjectionPrefix(layer, projection), chunk));
  return chunk;
}

}  // namespace

namespace internal {

absl::Status AddMatrixComponents(const ProjectionReading& reading, double eps,
                                 std::int64_t min_samples,
                                 const std::string& prefix,
                                 spec::Chunk& chunk) {
  const auto n = static_cast<std::int64_t>(reading.fitting.size());
  MOESCOPE_ASSIGN_OR_RETURN(
      const numerics::PrincipalComponents found,
      numerics::ComponentsFromGram(reading.standardised_gram, n, kComponents));
  const auto add = [&](const char* name, const auto& values) {
    chunk.arrays.push_back(
        spec::MakeArray(prefix + name, {static_cast<std::int64_t>(values.size())},
                        absl::MakeConstSpan(values)));
  };
  add("participants", reading.fitting);
  chunk.arrays.push_back(
      MakeFloat32(prefix + "scores", {n, kComponents}, found.scores));
  add("explained_ratio", found.explained_ratio);
  add("spectrum", found.spectrum);
  add("sign_gap", found.sign_gap);
  if (eps > 0) {
    MOESCOPE_ASSIGN_OR_RETURN(
        const std::vector<std::int64_t> labels,
        numerics::Dbscan(found.scores, kComponents, eps, min_samples));
    add("dbscan_labels", labels);
  }
  add("nonfinite", reading.fitting_nonfinite);
  return absl::OkStatus();
}

}  // namespace internal

spec::AnalysisInfo MatrixPcaInfo() {
  using Spec = spec::MatrixPcaSpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary = "Experts as points: principal components of their matrices.";
  info.definition =
      "Each projection flattened (the order of coordinates does not matter), "
      "every coordinate standardised over the participants (ddof 1; a constant "
      "coordinate becomes 0), two principal components from the N x N Gram "
      "matrix; of each component the score of largest magnitude is positive. "
      "DBSCAN of the scores. Participants whose width is not a routed expert's "
      "are left out.";
  info.source =
      "arXiv 2406.18219, appendix C.1; DBSCAN with eps 50 and min_samples 5 as "
      "its public notebook for DeepSeek";
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"layers", internal::kLayersMeaning},
       {"projections", internal::kProjectionsMeaning},
       {"participants", internal::kParticipantsMeaning},
       {"include_shared", internal::kIncludeSharedMeaning},
       {"baseline", internal::kBaselineMeaning},
       {"eps",
        "Distance within which scores are neighbours for DBSCAN; 0: no "
        "labels."},
       {"min_samples",
        "Neighbours, itself included, that make a core point, from 1 on."}});
  info.schema.arrays = Declarations();
  return info;
}

absl::Status RunMatrixPca(const spec::MatrixPcaSpec& spec,
                          const ModelInputs& inputs, const ResumePoint& resume,
                          ThreadPool& pool, const RunContext& context,
                          ChunkSink& sink) {
  if (inputs.checkpoint == nullptr) {
    return absl::InternalError("matrix_pca without a checkpoint");
  }
  return internal::EmitPerProjection(
      {"matrix PCA", spec.layers, spec.projections}, resume, context, sink,
      [&](std::int64_t layer,
          model::Projection projection) -> absl::StatusOr<spec::Chunk> {
        return ProjectionChunk(spec, inputs, layer, projection, pool, context);
      });
}

}  // namespace moescope::analysis
