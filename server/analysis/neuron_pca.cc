#include "moescope/analysis/neuron_pca.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/parameters_internal.h"
#include "server/analysis/projection_reading_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/principal_components.h"

namespace moescope::analysis {
namespace {

// Axes of the grid.
constexpr std::int64_t kGridAxes = 2;

struct Outputs {
  bool scores = false;
  bool sample = false;
  bool bins = false;
};

Outputs ParseOutputs(const std::vector<std::string>& outputs) {
  const auto has = [&](const char* name) {
    return std::find(outputs.begin(), outputs.end(), name) != outputs.end();
  };
  return {has("scores"), has("sample"), has("bins")};
}

// What one chunk is made of: scores [Σ F, dims] of participants with sizes F.
struct Neurons {
  std::vector<std::int64_t> participants;
  std::vector<std::int64_t> sizes;
  numerics::NeuronComponents found;
};

// `count` of [0, size) without repetition, rising: Floyd's selection, from bits
// that are the same in every library.
std::vector<std::int64_t> DrawSample(std::int64_t size, std::int64_t count,
                                     std::int64_t seed) {
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  std::vector<bool> chosen(static_cast<std::size_t>(size), false);
  for (std::int64_t last = size - std::min(count, size); last < size; ++last) {
    // The remainder favours low numbers by at most size / 2^64.
    const auto drawn = static_cast<std::size_t>(
        random() % static_cast<std::uint64_t>(last + 1));
    chosen[chosen[drawn] ? static_cast<std::size_t>(last) : drawn] = true;
  }
  std::vector<std::int64_t> sample;
  for (std::int64_t i = 0; i < size; ++i) {
    if (chosen[static_cast<std::size_t>(i)]) {
      sample.push_back(i);
    }
  }
  return sample;
}

void AddSample(const spec::NeuronPcaSpec& spec, const Neurons& neurons,
               const std::string& prefix, spec::Chunk& chunk) {
  const std::vector<double>& scores = neurons.found.components.scores;
  const auto points = static_cast<std::int64_t>(scores.size()) / spec.dims;
  const std::vector<std::int64_t> ids =
      DrawSample(points, spec.sample_size, spec.seed);
  std::vector<double> values;
  for (const std::int64_t id : ids) {
    const auto row = scores.begin() + id * spec.dims;
    values.insert(values.end(), row, row + spec.dims);
  }
  const auto count = static_cast<std::int64_t>(ids.size());
  chunk.arrays.push_back(spec::MakeArray(prefix + "sampled_ids", {count},
                                         absl::MakeConstSpan(ids)));
  chunk.arrays.push_back(internal::MakeFloat32(prefix + "sampled_scores",
                                               {count, spec.dims}, values));
}

// Lowest and highest finite score of a component; NaN where none is.
std::vector<double> Range(const std::vector<double>& scores, std::int64_t dims,
                          std::int64_t component) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (std::size_t i = static_cast<std::size_t>(component); i < scores.size();
       i += static_cast<std::size_t>(dims)) {
    if (std::isfinite(scores[i])) {
      low = std::min(low, scores[i]);
      high = std::max(high, scores[i]);
    }
  }
  if (low > high) {
    low = high = std::numeric_limits<double>::quiet_NaN();
  }
  return {low, high};
}

std::int64_t BinOf(double score, double low, double high, std::int64_t bins) {
  const double width = (high - low) / static_cast<double>(bins);
  const double bin = width > 0 ? std::floor((score - low) / width) : 0;
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(bin), 0, bins - 1);
}

void AddBins(const spec::NeuronPcaSpec& spec, const Neurons& neurons,
             const std::string& prefix, spec::Chunk& chunk) {
  const std::vector<double>& scores = neurons.found.components.scores;
  const std::vector<double> x = Range(scores, spec.dims, 0);
  const std::vector<double> y = Range(scores, spec.dims, 1);
  const auto n = static_cast<std::int64_t>(neurons.sizes.size());
  std::vector<std::int64_t> counts(
      static_cast<std::size_t>(n * spec.bins * spec.bins));
  const double* score = scores.data();
  for (std::int64_t p = 0; p < n; ++p) {
    const std::int64_t size = neurons.sizes[static_cast<std::size_t>(p)];
    for (std::int64_t i = 0; i < size; ++i, score += spec.dims) {
      if (std::isfinite(score[0]) && std::isfinite(score[1])) {
        ++counts[static_cast<std::size_t>(
            (p * spec.bins + BinOf(score[0], x[0], x[1], spec.bins)) *
                spec.bins +
            BinOf(score[1], y[0], y[1], spec.bins))];
      }
    }
  }
  chunk.arrays.push_back(spec::MakeArray(prefix + "bin_counts",
                                         {n, spec.bins, spec.bins},
                                         absl::MakeConstSpan(counts)));
  const std::vector<double> ranges = {x[0], x[1], y[0], y[1]};
  chunk.arrays.push_back(spec::MakeArray(prefix + "bin_ranges", {kGridAxes, 2},
                                         absl::MakeConstSpan(ranges)));
}

// Components are directions of the space that neurons are points of, and are
// found from two points on.
absl::Status CheckSize(const spec::NeuronPcaSpec& spec, std::int64_t layer,
                       std::int64_t length, std::int64_t neurons) {
  if (spec.dims > length) {
    return FieldError(
        absl::StatusCode::kFailedPrecondition, "spec.dims",
        absl::StrCat(spec.dims, " is more than ", length,
                     ", the length of a neuron of layer ", layer),
        "TOO_FEW_DIMENSIONS");
  }
  if (neurons < 2) {
    return FieldError(absl::StatusCode::kFailedPrecondition,
                      "spec.participants",
                      absl::StrCat("have ", neurons, " neuron in layer ", layer,
                                   ", at least 2 are needed"),
                      "TOO_FEW_NEURONS");
  }
  return absl::OkStatus();
}

absl::StatusOr<Neurons> Compute(const spec::NeuronPcaSpec& spec,
                                const ModelInputs& inputs, std::int64_t layer,
                                model::Projection projection, ThreadPool& pool,
                                const RunContext& context) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<internal::Participant> participants,
      internal::FindParticipants(spec.participants, layer, inputs));
  const bool down = projection == model::Projection::kDown;
  Neurons neurons;
  std::vector<numerics::MatrixView> views;
  for (const internal::Participant& participant : participants) {
    views.push_back(participant.weights[projection]);
    neurons.participants.push_back(participant.number);
    neurons.sizes.push_back(down ? views.back().cols : views.back().rows);
  }
  MOESCOPE_RETURN_IF_ERROR(CheckSize(
      spec, layer, inputs.checkpoint->config().width,
      std::accumulate(neurons.sizes.begin(), neurons.sizes.end(),
                      std::int64_t{0})));
  MOESCOPE_ASSIGN_OR_RETURN(
      neurons.found,
      numerics::ComputeNeuronComponents(
          views,
          down ? numerics::NeuronAxis::kColumns : numerics::NeuronAxis::kRows,
          spec.dims, pool, context));
  return neurons;
}

spec::Chunk MakeChunk(const spec::NeuronPcaSpec& spec, const Neurons& neurons,
                      const std::string& prefix) {
  const Outputs outputs = ParseOutputs(spec.outputs);
  const numerics::PrincipalComponents& found = neurons.found.components;
  spec::Chunk chunk;
  const auto add = [&](const char* name, const auto& values) {
    chunk.arrays.push_back(
        spec::MakeArray(prefix + name, {static_cast<std::int64_t>(values.size())},
                        absl::MakeConstSpan(values)));
  };
  add("participants", neurons.participants);
  add("participant_neurons", neurons.sizes);
  if (outputs.scores) {
    chunk.arrays.push_back(internal::MakeFloat32(
        prefix + "scores",
        {static_cast<std::int64_t>(found.scores.size()) / spec.dims, spec.dims},
        found.scores));
  }
  if (outputs.sample) {
    AddSample(spec, neurons, prefix, chunk);
  }
  if (outputs.bins) {
    AddBins(spec, neurons, prefix, chunk);
  }
  add("explained_ratio", found.explained_ratio);
  add("spectrum", found.spectrum);
  add("sign_gap", found.sign_gap);
  chunk.arrays.push_back(
      spec::MakeScalar(prefix + "residual", neurons.found.residual));
  add("nonfinite", neurons.found.nonfinite);
  return chunk;
}

std::vector<spec::ArrayDeclaration> Declarations() {
  const std::string prefix = "layer.{layer}.{projection}.";
  const auto real = spec::DType::kFloat64;
  const auto count = spec::DType::kInt64;
  const auto narrow = spec::DType::kFloat32;
  return {
      {prefix + "participants", count, {"N"}, "expert",
       "Whose neurons follow each other: expert numbers, -1 for S, -2 for F."},
      {prefix + "participant_neurons", count, {"N"}, "neuron",
       "Neurons of each of them."},
      {prefix + "scores", narrow, {"*", "*"}, "1",
       "Coordinates of every neuron along the components."},
      {prefix + "sampled_ids", count, {"*"}, "neuron",
       "Numbers, in the pool of all neurons, of those in the sample."},
      {prefix + "sampled_scores", narrow, {"*", "*"}, "1",
       "Coordinates of the neurons in the sample."},
      {prefix + "bin_counts", count, {"N", "*", "*"}, "neuron",
       "Neurons of each participant by bin of the first and of the second "
       "component."},
      {prefix + "bin_ranges", real, {"2", "2"}, "1",
       "Lowest and highest score of the first and of the second component: "
       "the bins divide these ranges evenly. NaN where the scores are."},
      {prefix + "explained_ratio", real, {"*"}, "1",
       "Shares of the variance of the components; 0 of directions beyond the "
       "number of neurons less one, whose scores are rounding alone."},
      {prefix + "spectrum", real, {"*"}, "1",
       "Shares of the variance of the first 16 components."},
      {prefix + "sign_gap", real, {"*"}, "1",
       "1 - second largest |score| / largest; near 0 the sign is arbitrary."},
      {prefix + "residual", real, {}, "1",
       "Largest |C v - lambda v| of the components over the first lambda, C "
       "the correlation matrix: at most 1e-8, NaN where a weight is no "
       "number."},
      {prefix + "nonfinite", count, {"N"}, "1",
       "Weights that are NaN or infinite; one makes all scores NaN."},
  };
}

}  // namespace

spec::AnalysisInfo NeuronPcaInfo() {
  using Spec = spec::NeuronPcaSpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary = "Neurons as points: principal components of all of them.";
  info.definition =
      "The neurons of all participants (rows of gate_proj and up_proj, columns "
      "of down_proj) pooled as points of length D, every coordinate "
      "standardised over them (ddof 1), two or three principal components of "
      "the correlation matrix with their residual; of each component the score "
      "of largest magnitude is positive. On request a random sample of the "
      "scores, and counts on a grid of the first two components.";
  info.source = "arXiv 2406.18219, appendix C.2";
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"layers", internal::kLayersMeaning},
       {"projections", internal::kProjectionsMeaning},
       {"participants", internal::kParticipantsMeaning},
       {"include_shared", internal::kIncludeSharedMeaning},
       {"baseline", internal::kBaselineMeaning},
       {"dims", "Components, 2 or 3."},
       {"outputs", "Among scores, sample, bins; empty: scores."},
       {"sample_size", "Neurons in the sample, 1 to 1000000."},
       {"bins", "Bins per axis of the grid, 1 to 1024."},
       {"seed", "Seed of the sample, from 0 on."}});
  info.schema.arrays = Declarations();
  return info;
}

absl::Status RunNeuronPca(const spec::NeuronPcaSpec& spec,
                          const ModelInputs& inputs, const ResumePoint& resume,
                          ThreadPool& pool, const RunContext& context,
                          ChunkSink& sink) {
  if (inputs.checkpoint == nullptr) {
    return absl::InternalError("neuron_pca without a checkpoint");
  }
  return internal::EmitPerProjection(
      {"neuron PCA", spec.layers, spec.projections}, resume, context, sink,
      [&](std::int64_t layer,
          model::Projection projection) -> absl::StatusOr<spec::Chunk> {
        MOESCOPE_ASSIGN_OR_RETURN(
            const Neurons neurons,
            Compute(spec, inputs, layer, projection, pool, context));
        return MakeChunk(spec, neurons,
                         internal::ProjectionPrefix(layer, projection));
      });
}

}  // namespace moescope::analysis
