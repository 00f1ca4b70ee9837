#include "moescope/analysis/catalogue.h"

#include <algorithm>
#include <string>
#include <type_traits>
#include <variant>

#include "absl/strings/str_cat.h"

#include "moescope/analysis/activation_statistics.h"
#include "moescope/analysis/expert_similarity.h"
#include "moescope/analysis/matrix_pca.h"
#include "moescope/analysis/neuron_matching.h"
#include "moescope/analysis/neuron_pca.h"
#include "moescope/analysis/neuron_weight_statistics.h"
#include "moescope/analysis/router_regression.h"
#include "moescope/analysis/routing_trace.h"
#include "moescope/analysis/static_suite.h"
#include "moescope/base/error.h"

namespace moescope::analysis {
namespace {

// One entry per analysis: which function answers which Spec. A Spec of the
// variant without an entry does not compile.
struct Runner {
  const ModelInputs& inputs;
  const ResumePoint& resume;
  ThreadPool& pool;
  const RunContext& context;
  ChunkSink& sink;

  absl::Status operator()(const spec::RoutingTraceSpec& spec) const {
    return RunRoutingTrace(spec, inputs, resume, pool, context, sink);
  }
  absl::Status operator()(const spec::ExpertSimilaritySpec& spec) const {
    return RunExpertSimilarity(spec, inputs, resume, pool, context, sink);
  }
  absl::Status operator()(const spec::NeuronWeightStatisticsSpec& spec) const {
    return RunNeuronWeightStatistics(spec, inputs, resume, pool, context, sink);
  }
  absl::Status operator()(const spec::ActivationStatisticsSpec& spec) const {
    return RunActivationStatistics(spec, inputs, resume, pool, context, sink);
  }
  absl::Status operator()(const spec::RouterRegressionSpec& spec) const {
    return RunRouterRegression(spec, inputs, resume, pool, context, sink);
  }
  absl::Status operator()(const spec::MatrixPcaSpec& spec) const {
    return RunMatrixPca(spec, inputs, resume, pool, context, sink);
  }
  absl::Status operator()(const spec::NeuronPcaSpec& spec) const {
    return RunNeuronPca(spec, inputs, resume, pool, context, sink);
  }
  absl::Status operator()(const spec::StaticSuiteSpec& spec) const {
    return RunStaticSuite(spec, inputs, resume, pool, context, sink);
  }
  absl::Status operator()(const spec::NeuronMatchingSpec& spec) const {
    return RunNeuronMatching(spec, inputs, resume, pool, context, sink);
  }
};

}  // namespace

const std::vector<spec::AnalysisInfo>& Catalogue() {
  // Never destroyed: threads may still read it while the program ends.
  static const auto* const catalogue = new std::vector<spec::AnalysisInfo>{
      RoutingTraceInfo(), ExpertSimilarityInfo(), NeuronWeightStatisticsInfo(),
      ActivationStatisticsInfo(), RouterRegressionInfo(), MatrixPcaInfo(),
      NeuronPcaInfo(), StaticSuiteInfo(), NeuronMatchingInfo()};
  static_assert(std::variant_size_v<spec::AnalysisSpec> == 9,
                "every analysis stands in the catalogue");
  return *catalogue;
}

absl::Status Run(const spec::AnalysisSpec& spec, const ModelInputs& inputs,
                 const ResumePoint& resume, ThreadPool& pool,
                 const RunContext& context, ChunkSink& sink) {
  return std::visit(Runner{inputs, resume, pool, context, sink}, spec);
}

bool NeedsModel(const spec::AnalysisSpec& spec) {
  return Catalogue()[spec.index()].needs_forward;
}

absl::Status RequireForward(const spec::AnalysisSpec& spec,
                            const model::Checkpoint& checkpoint) {
  const absl::Status& status = checkpoint.forward_status();
  if (!NeedsModel(spec) || status.ok()) {
    return absl::OkStatus();
  }
  return FieldError(status.code(), "spec.model",
                    absl::StrCat("no forward pass: ", status.message()),
                    "NO_FORWARD_PASS");
}

spec::ModelFacts FactsOf(const model::Checkpoint& checkpoint,
                         absl::string_view name) {
  const model::ModelConfig& config = checkpoint.config();
  spec::ModelFacts facts;
  facts.name = std::string(name);
  facts.moe_layers = config.MoeLayers();
  facts.num_layers = config.num_layers;
  facts.num_experts = config.num_experts;
  facts.width = config.width;
  facts.expert_width = config.expert_width;
  facts.shared_width = config.shared_width;
  facts.dense_width = config.dense_width;
  facts.vocab_size = config.vocab_size;
  facts.max_positions = config.max_positions;
  facts.has_shared_experts = config.num_shared_experts > 0;
  facts.has_router_correction = config.router.corrected;
  facts.has_router_groups = config.router.num_groups > 1;
  facts.masked_groups_are_zero = config.router.masked_groups_are_zero;
  facts.has_attention_router =
      config.attention.kind == model::AttentionKind::kMixture;
  facts.is_dense = facts.moe_layers.empty();
  return facts;
}

}  // namespace moescope::analysis
