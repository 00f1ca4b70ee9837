#include "moescope/analysis/router_regression.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/parameters_internal.h"
#include "server/analysis/projection_reading_internal.h"
#include "server/analysis/regression_arrays_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::analysis {
namespace {

// Reads what the regression of one layer needs.
absl::StatusOr<internal::RegressionMaps> ReadMaps(
    const spec::RouterRegressionSpec& spec, const ModelInputs& inputs,
    std::int64_t layer, ThreadPool& pool, const RunContext& context) {
  internal::RegressionMaps maps;
  maps.experts = inputs.checkpoint->config().num_experts;
  std::vector<std::string> experts;
  for (std::int64_t e = 0; e < maps.experts; ++e) {
    experts.push_back(absl::StrCat(e));
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<internal::Participant> participants,
      internal::FindParticipants(experts, layer, inputs));
  internal::ReadingWants wants;
  wants.means = true;
  spec::Chunk unused;
  for (const std::string& name : spec.projections) {
    MOESCOPE_ASSIGN_OR_RETURN(const model::Projection projection,
                              internal::ParseProjection(name));
    MOESCOPE_ASSIGN_OR_RETURN(
        const internal::ProjectionReading reading,
        internal::ReadProjection(participants, projection, wants, pool,
                                 context));
    MOESCOPE_ASSIGN_OR_RETURN(
        std::vector<double> cosines,
        internal::AddAverageSimilarity(reading, "", unused));
    maps.averages.push_back(std::move(cosines));
    maps.nonfinite.push_back(reading.nonfinite);
  }
  MOESCOPE_ASSIGN_OR_RETURN(const numerics::MatrixView router,
                            inputs.checkpoint->Router(layer));
  MOESCOPE_ASSIGN_OR_RETURN(
      maps.router_nonfinite,
      numerics::CountNonfinite(router, pool, context));
  MOESCOPE_ASSIGN_OR_RETURN(
      maps.router,
      internal::AddRouterSimilarity(*inputs.checkpoint, layer, "", unused));
  return maps;
}

std::vector<spec::ArrayDeclaration> Declarations() {
  std::vector<spec::ArrayDeclaration> arrays = {
      {"layer.{layer}.{projection}.nonfinite",
       spec::DType::kInt64,
       {"E"},
       "1",
       "Weights that are NaN or infinite, by expert; then reals of the "
       "projection are NaN."}};
  const auto add = [&](const std::string& pattern, spec::DType dtype,
                       const char* meaning) {
    arrays.push_back({pattern, dtype, {}, "1", meaning});
  };
  const auto real = spec::DType::kFloat64;
  add("layer.{layer}.pairs", spec::DType::kInt64, "Pairs of routed experts.");
  add("layer.{layer}.chance_r2", real,
      "1/(pairs - 1): expected r2 of unrelated maps.");
  add("layer.{layer}.router_nonfinite", spec::DType::kInt64,
      "Weights of the router that are NaN or infinite; then reals of the layer "
      "are NaN.");
  const std::string prefix = "layer.{layer}.{projection}.";
  add(prefix + "slope", real, "Slope of neuron_average over router cosine.");
  add(prefix + "intercept", real, "Its intercept.");
  add(prefix + "reverse_slope", real,
      "Slope of router over neuron_average cosine.");
  add(prefix + "reverse_intercept", real, "Its intercept.");
  add(prefix + "r", real, "Pearson's correlation.");
  add(prefix + "r2", real, "Its square.");
  add(prefix + "r2_rounded", real, "Its square, rounded to two decimals.");
  add(prefix + "p", real, "Two-sided p of r by Student's t.");
  add(prefix + "mantel_p", real,
      "Share of relabelings of the experts with |r| at least as large.");
  add(prefix + "mantel_p_greater", real,
      "Share of relabelings with r at least as large.");
  add(prefix + "mantel_p_se", real,
      "Standard error of mantel_p; 0 where all relabelings were counted.");
  add(prefix + "mantel_relabelings", spec::DType::kInt64,
      "Relabelings looked at.");
  add("{projection}.mean_r2_rounded", real,
      "Mean of r2_rounded over mean_r2_layers, as the published tables.");
  add("{projection}.mean_r2", real, "Mean of r2 over mean_r2_layers.");
  add("{projection}.mean_r2_layers", spec::DType::kInt64,
      "Layers whose r2 is a number, of which the means are taken.");
  return arrays;
}

}  // namespace

spec::AnalysisInfo RouterRegressionInfo() {
  using Spec = spec::RouterRegressionSpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary =
      "Whether experts with similar router rows have similar weights.";
  info.definition =
      "Least squares over all pairs of routed experts: x = cosine of router "
      "rows, y = cosine of mean neurons of a projection (lower triangles); "
      "reverse_* with x and y exchanged. p by Student's t; Mantel p over all "
      "relabelings of up to 8 experts, else (1 + count)/(1 + draws) with its "
      "standard error. Chance level of r2: 1/(pairs - 1). Means of r2 over the "
      "layers, rounded to two decimals first (as the published tables) and "
      "unrounded.";
  info.source =
      "arXiv 2406.18219, section 4.2, Tables 3 and 5 (x and y as in its text; "
      "its notebook exchanges them); Mantel, Cancer Research 27 (1967)";
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"layers", internal::kLayersMeaning},
       {"projections", internal::kProjectionsMeaning},
       {"draws",
        "Relabelings drawn where a model has more than 8 experts, 1 to "
        "10000000."},
       {"seed", "Seed of the draws, from 0 on."}});
  info.schema.arrays = Declarations();
  return info;
}

absl::Status RunRouterRegression(const spec::RouterRegressionSpec& spec,
                                 const ModelInputs& inputs,
                                 const ResumePoint& resume, ThreadPool& pool,
                                 const RunContext& context, ChunkSink& sink) {
  if (inputs.checkpoint == nullptr) {
    return absl::InternalError("router_regression without a checkpoint");
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      internal::RegressionMeans means,
      internal::RegressionMeans::Create(spec.projections.size(), resume.state));
  internal::ChunkEmitter emitter(resume, sink);
  const auto layers = static_cast<std::int64_t>(spec.layers.size());
  Progress progress = {"router regression", 0, layers, "layers"};
  for (std::int64_t i = 0; i < layers; ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const std::int64_t layer = spec.layers[static_cast<std::size_t>(i)];
    ++progress.done;
    if (!emitter.wanted() && means.layers() > i) {
      // Not reported: it tells nothing of this run's pace.
      emitter.Skip();
      continue;
    }
    MOESCOPE_ASSIGN_OR_RETURN(const internal::RegressionMaps maps,
                              ReadMaps(spec, inputs, layer, pool, context));
    spec::Chunk chunk;
    MOESCOPE_ASSIGN_OR_RETURN(
        const std::vector<double> r2,
        internal::AddRegression(maps, spec.projections, {spec.draws, spec.seed},
                                internal::LayerName(layer, ""), pool, context,
                                chunk));
    means.Add(i, r2);
    MOESCOPE_RETURN_IF_ERROR(emitter.Emit(std::move(chunk)));
    MOESCOPE_RETURN_IF_ERROR(sink.SaveState(means.Encode()));
    context.ReportProgress(progress);
  }
  spec::Chunk chunk;
  means.AddArrays("", spec.projections, chunk);
  return emitter.Emit(std::move(chunk));
}

}  // namespace moescope::analysis
