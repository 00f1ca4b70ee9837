#include "moescope/analysis/neuron_weight_statistics.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
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
#include "moescope/numerics/descriptive.h"
#include "moescope/numerics/effective_rank.h"
#include "moescope/numerics/gram.h"

namespace moescope::analysis {
namespace {

using internal::Participant;

struct Unit {
  std::int64_t layer = 0;
  model::Projection projection = model::Projection::kGate;
};

// One projection of one layer; N participants of a routed expert's shape.
struct Figures {
  std::vector<std::int64_t> participants;
  std::vector<double> norms;  // [N, F]
  std::vector<std::int64_t> nonfinite;
  std::vector<double> mean;
  std::vector<double> std;
  std::vector<double> min;
  std::vector<double> max;
  std::vector<double> quantiles;  // [N, Q]
  std::vector<double> frobenius;
  std::vector<double> effective_rank;
};

// √Σ of squared norms: what the matrix itself would give, without another
// reading.
double FrobeniusOf(absl::Span<const double> norms, bool finite) {
  double sum = 0;
  for (const double norm : norms) {
    sum += norm * norm;
  }
  return finite ? std::sqrt(sum) : std::numeric_limits<double>::quiet_NaN();
}

absl::Status Summarise(absl::Span<const double> norms, bool finite,
                       const std::vector<double>& quantiles, Figures& figures) {
  const numerics::Moments moments = numerics::ComputeMoments(norms);
  figures.mean.push_back(moments.mean);
  figures.std.push_back(moments.std);
  figures.min.push_back(moments.min);
  figures.max.push_back(moments.max);
  figures.frobenius.push_back(FrobeniusOf(norms, finite));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<double> values,
                            numerics::Quantiles(norms, quantiles));
  figures.quantiles.insert(figures.quantiles.end(), values.begin(),
                           values.end());
  return absl::OkStatus();
}

absl::StatusOr<Figures> Compute(const spec::NeuronWeightStatisticsSpec& spec,
                                const ModelInputs& inputs, const Unit& unit,
                                ThreadPool& pool, const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<Participant> all,
      internal::FindParticipants(spec.participants, unit.layer, inputs));
  Figures figures;
  std::vector<numerics::MatrixView> views;
  for (const Participant& participant : all) {
    if (participant.routed_shape) {
      figures.participants.push_back(participant.number);
      views.push_back(participant.weights[unit.projection]);
    }
  }
  if (views.empty()) {
    return figures;
  }
  numerics::GramOptions options;
  options.gram = false;
  options.column_norms = unit.projection == model::Projection::kDown;
  options.row_norms = !options.column_norms;
  MOESCOPE_ASSIGN_OR_RETURN(
      numerics::GramResult read,
      numerics::ComputeGram(views, options, pool, context));
  figures.norms =
      std::move(options.row_norms ? read.row_norms : read.column_norms);
  figures.nonfinite = std::move(read.nonfinite);
  const std::size_t width = figures.norms.size() / views.size();
  for (std::size_t i = 0; i < views.size(); ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    MOESCOPE_RETURN_IF_ERROR(
        Summarise(absl::MakeConstSpan(figures.norms).subspan(i * width, width),
                  figures.nonfinite[i] == 0, spec.quantiles, figures));
    if (spec.effective_rank) {
      MOESCOPE_ASSIGN_OR_RETURN(
          const numerics::Spectrum spectrum,
          numerics::ComputeSpectrum(views[i], pool, context));
      figures.effective_rank.push_back(spectrum.effective_rank);
    }
  }
  return figures;
}

spec::Chunk MakeChunk(const spec::NeuronWeightStatisticsSpec& spec,
                      const Unit& unit, std::int64_t width,
                      const Figures& figures) {
  const std::string prefix = internal::LayerName(
      unit.layer, absl::StrCat(model::ProjectionName(unit.projection), "."));
  const auto n = static_cast<std::int64_t>(figures.participants.size());
  spec::Chunk chunk;
  const auto add = [&](const char* name, const std::vector<double>& values) {
    chunk.arrays.push_back(
        spec::MakeArray(prefix + name, {n}, absl::MakeConstSpan(values)));
  };
  const auto add_counts = [&](const char* name,
                              const std::vector<std::int64_t>& values) {
    chunk.arrays.push_back(
        spec::MakeArray(prefix + name, {n}, absl::MakeConstSpan(values)));
  };
  add_counts("participants", figures.participants);
  chunk.arrays.push_back(
      internal::MakeFloat32(prefix + "norms", {n, width}, figures.norms));
  add("norm_mean", figures.mean);
  add("norm_std", figures.std);
  add("norm_min", figures.min);
  add("norm_max", figures.max);
  if (!spec.quantiles.empty()) {
    chunk.arrays.push_back(
        spec::MakeArray(prefix + "norm_quantiles",
                        {n, static_cast<std::int64_t>(spec.quantiles.size())},
                        absl::MakeConstSpan(figures.quantiles)));
  }
  add("frobenius", figures.frobenius);
  if (spec.effective_rank) {
    add("effective_rank", figures.effective_rank);
  }
  add_counts("nonfinite", figures.nonfinite);
  return chunk;
}

std::vector<spec::ArrayDeclaration> Declarations() {
  const std::string prefix = "layer.{layer}.{projection}.";
  const auto real = spec::DType::kFloat64;
  return {
      {prefix + "participants",
       spec::DType::kInt64,
       {"N"},
       "expert",
       "Who the rows are: expert numbers, -1 for S, -2 for F."},
      {prefix + "norms",
       spec::DType::kFloat32,
       {"N", "F"},
       "1",
       "L2 norm of each neuron."},
      {prefix + "norm_mean", real, {"N"}, "1", "Mean of the norms."},
      {prefix + "norm_std",
       real,
       {"N"},
       "1",
       "Standard deviation of the norms, ddof 0."},
      {prefix + "norm_min", real, {"N"}, "1", "Smallest norm."},
      {prefix + "norm_max", real, {"N"}, "1", "Largest norm."},
      {prefix + "norm_quantiles",
       real,
       {"N", "*"},
       "1",
       "Norms at the quantiles asked for, linearly interpolated."},
      {prefix + "frobenius",
       real,
       {"N"},
       "1",
       "Frobenius norm of the projection."},
      {prefix + "effective_rank",
       real,
       {"N"},
       "1",
       "exp of the entropy of the squared singular values over their sum."},
      {prefix + "nonfinite",
       spec::DType::kInt64,
       {"N"},
       "1",
       "Weights that are NaN or infinite."},
  };
}

}  // namespace

spec::AnalysisInfo NeuronWeightStatisticsInfo() {
  using Spec = spec::NeuronWeightStatisticsSpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary = "How large the neurons and matrices of each expert are.";
  info.definition =
      "L2 norm of every neuron (row of gate_proj and up_proj, column of "
      "down_proj) with mean, standard deviation (ddof 0), extremes and "
      "quantiles; Frobenius norm; effective rank exp(-sum p ln p) with p the "
      "squared singular values over their sum. Participants whose width is not "
      "a routed expert's are left out.";
  info.source =
      "Effective rank after Roy and Vetterli (EUSIPCO 2007), with energies in "
      "place of singular values; neurons as in arXiv 2406.18219";
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"layers", internal::kLayersMeaning},
       {"projections", internal::kProjectionsMeaning},
       {"participants", internal::kParticipantsMeaning},
       {"include_shared", internal::kIncludeSharedMeaning},
       {"baseline", internal::kBaselineMeaning},
       {"quantiles", "Probabilities in [0, 1] of norm_quantiles."},
       {"effective_rank",
        "Whether the effective rank is computed: it takes the eigenvalues of "
        "every matrix, by far the largest part of the work."}});
  info.schema.arrays = Declarations();
  return info;
}

absl::Status RunNeuronWeightStatistics(
    const spec::NeuronWeightStatisticsSpec& spec, const ModelInputs& inputs,
    const ResumePoint& resume, ThreadPool& pool, const RunContext& context,
    ChunkSink& sink) {
  if (inputs.checkpoint == nullptr) {
    return absl::InternalError("neuron_weight_statistics without a checkpoint");
  }
  internal::ChunkEmitter emitter(resume, sink);
  Progress progress = {
      "neuron statistics", 0,
      static_cast<std::int64_t>(spec.layers.size() * spec.projections.size()),
      "matrices"};
  for (const std::int64_t layer : spec.layers) {
    for (const std::string& name : spec.projections) {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
      if (emitter.wanted()) {
        Unit unit;
        unit.layer = layer;
        MOESCOPE_ASSIGN_OR_RETURN(unit.projection,
                                  internal::ParseProjection(name));
        MOESCOPE_ASSIGN_OR_RETURN(const Figures figures,
                                  Compute(spec, inputs, unit, pool, context));
        MOESCOPE_RETURN_IF_ERROR(emitter.Emit(MakeChunk(
            spec, unit, inputs.checkpoint->config().expert_width, figures)));
      } else {
        emitter.Skip();
      }
      ++progress.done;
      context.ReportProgress(progress);
    }
  }
  return absl::OkStatus();
}

}  // namespace moescope::analysis
