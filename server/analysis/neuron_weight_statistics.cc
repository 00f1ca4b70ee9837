#include "moescope/analysis/neuron_weight_statistics.h"

#include <algorithm>
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
#include "server/analysis/projection_reading_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/descriptive.h"
#include "moescope/numerics/effective_rank.h"

namespace moescope::analysis {
namespace {

using internal::Participant;

// Summaries of N participants' norms.
struct Figures {
  Figures(std::size_t n, std::size_t num_quantiles)
      : mean(n), std(n), min(n), max(n), quantiles(n * num_quantiles),
        frobenius(n) {}

  std::vector<double> mean;
  std::vector<double> std;
  std::vector<double> min;
  std::vector<double> max;
  std::vector<double> quantiles;  // [N, Q]
  std::vector<double> frobenius;
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

// Participant i, beside others.
absl::Status Summarise(absl::Span<const double> norms, bool finite,
                       const std::vector<double>& quantiles, std::size_t i,
                       Figures& figures) {
  const numerics::Moments moments = numerics::ComputeMoments(norms);
  figures.mean[i] = moments.mean;
  figures.std[i] = moments.std;
  figures.min[i] = moments.min;
  figures.max[i] = moments.max;
  figures.frobenius[i] = FrobeniusOf(norms, finite);
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<double> values,
                            numerics::Quantiles(norms, quantiles));
  std::copy(values.begin(), values.end(),
            figures.quantiles.begin() +
                static_cast<std::ptrdiff_t>(i * quantiles.size()));
  return absl::OkStatus();
}

absl::StatusOr<spec::Chunk> Compute(
    const spec::NeuronWeightStatisticsSpec& spec, const ModelInputs& inputs,
    std::int64_t layer, model::Projection projection, ThreadPool& pool,
    const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<Participant> all,
      internal::FindParticipants(spec.participants, layer, inputs));
  internal::ReadingWants wants;
  wants.norms = true;
  MOESCOPE_ASSIGN_OR_RETURN(
      const internal::ProjectionReading reading,
      internal::ReadProjection(all, projection, wants, pool, context));
  std::vector<double> ranks;
  for (const Participant& participant : all) {
    if (spec.effective_rank && participant.routed_shape) {
      MOESCOPE_ASSIGN_OR_RETURN(
          const numerics::Spectrum spectrum,
          numerics::ComputeSpectrum(participant.weights[projection], pool,
                                    context));
      ranks.push_back(spectrum.effective_rank);
    }
  }
  spec::Chunk chunk;
  MOESCOPE_RETURN_IF_ERROR(internal::AddNormStatistics(
      reading, spec.quantiles, spec.effective_rank ? &ranks : nullptr,
      internal::ProjectionPrefix(layer, projection), pool, chunk));
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

namespace internal {

absl::Status AddNormStatistics(const ProjectionReading& reading,
                               const std::vector<double>& quantiles,
                               const std::vector<double>* effective_ranks,
                               const std::string& prefix, ThreadPool& pool,
                               spec::Chunk& chunk) {
  const std::size_t count = reading.fitting.size();
  const std::size_t width = count == 0 ? 0 : reading.norms.size() / count;
  Figures figures(count, quantiles.size());
  const auto n = static_cast<std::int64_t>(count);
  MOESCOPE_RETURN_IF_ERROR(pool.ParallelFor(n, [&](std::int64_t participant) {
    const auto i = static_cast<std::size_t>(participant);
    return Summarise(
        absl::MakeConstSpan(reading.norms).subspan(i * width, width),
        reading.fitting_nonfinite[i] == 0, quantiles, i, figures);
  }));
  const auto add = [&](const char* name, const auto& values) {
    chunk.arrays.push_back(
        spec::MakeArray(prefix + name, {n}, absl::MakeConstSpan(values)));
  };
  add("participants", reading.fitting);
  chunk.arrays.push_back(
      MakeFloat32(prefix + "norms", {n, static_cast<std::int64_t>(width)},
                  reading.norms));
  add("norm_mean", figures.mean);
  add("norm_std", figures.std);
  add("norm_min", figures.min);
  add("norm_max", figures.max);
  if (!quantiles.empty()) {
    chunk.arrays.push_back(spec::MakeArray(
        prefix + "norm_quantiles",
        {n, static_cast<std::int64_t>(quantiles.size())},
        absl::MakeConstSpan(figures.quantiles)));
  }
  add("frobenius", figures.frobenius);
  if (effective_ranks != nullptr) {
    add("effective_rank", *effective_ranks);
  }
  add("nonfinite", reading.fitting_nonfinite);
  return absl::OkStatus();
}

}  // namespace internal

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
  return internal::EmitPerProjection(
      {"neuron statistics", spec.layers, spec.projections}, resume, context, sink,
      [&](std::int64_t layer,
          model::Projection projection) -> absl::StatusOr<spec::Chunk> {
        return Compute(spec, inputs, layer, projection, pool, context);
      });
}

}  // namespace moescope::analysis
