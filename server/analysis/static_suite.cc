#include "moescope/analysis/static_suite.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/parameters_internal.h"
#include "server/analysis/projection_reading_internal.h"
#include "server/analysis/regression_arrays_internal.h"

#include "moescope/analysis/expert_similarity.h"
#include "moescope/analysis/matrix_pca.h"
#include "moescope/analysis/neuron_weight_statistics.h"
#include "moescope/analysis/router_regression.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::analysis {
namespace {

constexpr char kSimilarity[] = "expert_similarity/";
constexpr char kNorms[] = "neuron_weight_statistics/";
constexpr char kComponents[] = "matrix_pca/";
constexpr char kRegression[] = "router_regression/";

// The first `experts` rows and columns of `map` [n, n].
std::vector<double> Corner(const std::vector<double>& map, std::size_t n,
                           std::size_t experts) {
  std::vector<double> corner;
  for (std::size_t i = 0; i < experts; ++i) {
    const auto row = map.begin() + static_cast<std::ptrdiff_t>(i * n);
    corner.insert(corner.end(), row,
                  row + static_cast<std::ptrdiff_t>(experts));
  }
  return corner;
}

class Suite {
 public:
  Suite(const spec::StaticSuiteSpec& spec, const ModelInputs& inputs,
        ThreadPool& pool, const RunContext& context,
        internal::ChunkEmitter& emitter)
      : spec_(spec),
        inputs_(inputs),
        pool_(pool),
        context_(context),
        emitter_(emitter),
        experts_(inputs.checkpoint->config().num_experts) {}

  // Chunks that a layer emits.
  std::int64_t chunks_per_layer() const {
    return static_cast<std::int64_t>(spec_.projections.size()) + 1;
  }

  // Emits the chunks of `layer`; returns r² of its projections.
  absl::StatusOr<std::vector<double>> RunLayer(std::int64_t layer) {
    MOESCOPE_ASSIGN_OR_RETURN(
        const std::vector<internal::Participant> participants,
        internal::FindParticipants(spec_.participants, layer, inputs_));
    internal::RegressionMaps maps;
    maps.experts = experts_;
    for (const std::string& name : spec_.projections) {
      MOESCOPE_RETURN_IF_ERROR(context_.Check());
      MOESCOPE_ASSIGN_OR_RETURN(const model::Projection projection,
                                internal::ParseProjection(name));
      MOESCOPE_ASSIGN_OR_RETURN(RoutedPart part,
                                RunProjection(participants, layer, projection));
      maps.averages.push_back(std::move(part.averages));
      maps.nonfinite.push_back(std::move(part.nonfinite));
    }
    MOESCOPE_ASSIGN_OR_RETURN(const numerics::MatrixView router,
                              inputs_.checkpoint->Router(layer));
    MOESCOPE_ASSIGN_OR_RETURN(
        maps.router_nonfinite,
        numerics::CountNonfinite(router, pool_, context_));
    spec::Chunk chunk;
    MOESCOPE_ASSIGN_OR_RETURN(
        maps.router,
        internal::AddRouterSimilarity(
            *inputs_.checkpoint, layer,
            absl::StrCat(kSimilarity, internal::LayerName(layer, "")), chunk));
    MOESCOPE_ASSIGN_OR_RETURN(
        std::vector<double> r2,
        internal::AddRegression(
            maps, spec_.projections, {spec_.draws, spec_.seed},
            absl::StrCat(kRegression, internal::LayerName(layer, "")), pool_,
            context_, chunk));
    MOESCOPE_RETURN_IF_ERROR(emitter_.Emit(std::move(chunk)));
    return r2;
  }

 private:
  // What the regression takes from a projection of the routed experts.
  struct RoutedPart {
    std::vector<double> averages;         // [E, E]
    std::vector<std::int64_t> nonfinite;  // [E]
  };

  // Emits a chunk.
  absl::StatusOr<RoutedPart> RunProjection(
      const std::vector<internal::Participant>& participants,
      std::int64_t layer, model::Projection projection) {
    internal::ReadingWants wants;
    wants.gram = wants.standardised_gram = true;
    wants.means = wants.norms = true;
    MOESCOPE_ASSIGN_OR_RETURN(
        const internal::ProjectionReading reading,
        internal::ReadProjection(participants, projection, wants, pool_,
                                 context_));
    const std::string prefix = internal::ProjectionPrefix(layer, projection);
    spec::Chunk chunk;
    MOESCOPE_RETURN_IF_ERROR(
        internal::AddMatrixSimilarity(reading, kSimilarity + prefix, chunk));
    MOESCOPE_ASSIGN_OR_RETURN(
        const std::vector<double> averages,
        internal::AddAverageSimilarity(reading, kSimilarity + prefix, chunk));
    internal::AddNonfinite(reading, kSimilarity + prefix, chunk);
    MOESCOPE_RETURN_IF_ERROR(
        internal::AddNormStatistics(reading, spec_.quantiles, nullptr,
                                    kNorms + prefix, pool_, chunk));
    MOESCOPE_RETURN_IF_ERROR(
        internal::AddMatrixComponents(reading, spec_.eps, spec_.min_samples,
                                      kComponents + prefix, chunk));
    MOESCOPE_RETURN_IF_ERROR(emitter_.Emit(std::move(chunk)));
    // Routed experts come first, all of them.
    return RoutedPart{
        Corner(averages, reading.participants.size(),
               static_cast<std::size_t>(experts_)),
        {reading.nonfinite.begin(), reading.nonfinite.begin() + experts_}};
  }

  const spec::StaticSuiteSpec& spec_;
  const ModelInputs& inputs_;
  ThreadPool& pool_;
  const RunContext& context_;
  internal::ChunkEmitter& emitter_;
  const std::int64_t experts_;
};

// Hashes the weights in the order of the files while they are being analysed:
// whoever comes first to a page reads it from disk, the other finds it in
// memory.
class BackgroundHashing {
 public:
  BackgroundHashing(const ModelInputs& inputs, ThreadPool& pool)
      : context_(std::make_shared<CancellationToken>()) {
    if (inputs.hasher != nullptr) {
      thread_ = std::thread([this, &inputs, &pool] {
        status_ = model::HashMissingLeaves(*inputs.checkpoint, *inputs.hasher,
                                           pool, context_);
        done_.Notify();
      });
    }
  }
  ~BackgroundHashing() {
    context_.token().Cancel(absl::CancelledError("the analysis ended"));
    Join();
  }

  absl::Status Finish(const RunContext& context) {
    while (thread_.joinable() && !done_.WaitForNotificationWithTimeout(kPoll)) {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
    }
    Join();
    return status_;
  }

 private:
  static constexpr absl::Duration kPoll = absl::Milliseconds(50);

  void Join() {
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  RunContext context_;
  absl::Status status_;
  absl::Notification done_;
  std::thread thread_;
};

std::vector<spec::ArrayDeclaration> Declarations() {
  std::vector<spec::ArrayDeclaration> all;
  const auto add = [&all](const char* prefix, const spec::AnalysisInfo& info) {
    for (spec::ArrayDeclaration& declaration :
         internal::Prefixed(prefix, info.schema.arrays)) {
      all.push_back(std::move(declaration));
    }
  };
  add(kSimilarity, ExpertSimilarityInfo());
  add(kRegression, RouterRegressionInfo());
  add(kNorms, NeuronWeightStatisticsInfo());
  add(kComponents, MatrixPcaInfo());
  return all;
}

}  // namespace

spec::AnalysisInfo StaticSuiteInfo() {
  using Spec = spec::StaticSuiteSpec;
  spec::AnalysisInfo info;
  info.name = std::string(Spec::kName);
  info.version = Spec::kVersion;
  info.summary =
      "Similarities, router regression, neuron norms and matrix PCA at once.";
  info.definition =
      "expert_similarity at all levels, router_regression, "
      "neuron_weight_statistics without effective rank and matrix_pca, each "
      "exactly as by itself, from one reading of the weights. Arrays are called "
      "<analysis>/<name>.";
  info.source = "arXiv 2406.18219, sections 4.1 and 4.2, appendices C to E";
  info.parameters = internal::DescribeParameters<Spec>(
      {{"model", internal::kModelMeaning},
       {"layers", internal::kLayersMeaning},
       {"projections", internal::kProjectionsMeaning},
       {"participants",
        "All routed experts (\"0\" to \"E-1\") and, if wanted, \"S\" and "
        "\"F\"; empty: the routed experts, with S if include_shared and F if "
        "there is a baseline."},
       {"include_shared", internal::kIncludeSharedMeaning},
       {"baseline", internal::kBaselineMeaning},
       {"quantiles", "Probabilities in [0, 1] of norm_quantiles."},
       {"draws", "As in router_regression."},
       {"seed", "As in router_regression."},
       {"eps", "As in matrix_pca."},
       {"min_samples", "As in matrix_pca."}});
  info.schema.arrays = Declarations();
  return info;
}

absl::Status RunStaticSuite(const spec::StaticSuiteSpec& spec,
                            const ModelInputs& inputs,
                            const ResumePoint& resume, ThreadPool& pool,
                            const RunContext& context, ChunkSink& sink) {
  if (inputs.checkpoint == nullptr) {
    return absl::InternalError("static_suite without a checkpoint");
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      internal::RegressionMeans means,
      internal::RegressionMeans::Create(spec.projections.size(), resume.state));
  internal::ChunkEmitter emitter(resume, sink);
  BackgroundHashing hashing(inputs, pool);
  Suite suite(spec, inputs, pool, context, emitter);
  const auto layers = static_cast<std::int64_t>(spec.layers.size());
  Progress progress = {"static suite", 0, layers, "layers"};
  for (std::int64_t i = 0; i < layers; ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const bool kept = resume.chunks >= (i + 1) * suite.chunks_per_layer();
    ++progress.done;
    if (kept && means.layers() > i) {
      // Not reported: it tells nothing of this run's pace.
      for (std::int64_t c = 0; c < suite.chunks_per_layer(); ++c) {
        emitter.Skip();
      }
      continue;
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        const std::vector<double> r2,
        suite.RunLayer(spec.layers[static_cast<std::size_t>(i)]));
    means.Add(i, r2);
    MOESCOPE_RETURN_IF_ERROR(sink.SaveState(means.Encode()));
    context.ReportProgress(progress);
  }
  spec::Chunk chunk;
  means.AddArrays(kRegression, spec.projections, chunk);
  MOESCOPE_RETURN_IF_ERROR(hashing.Finish(context));
  return emitter.Emit(std::move(chunk));
}

}  // namespace moescope::analysis
