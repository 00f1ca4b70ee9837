#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `activation_statistics` is, for people and for clients.
spec::AnalysisInfo ActivationStatisticsInfo();

/// Definition: statistics of a = act(gate_proj x), before the product with
/// up_proj x, of every routed expert on every token, and on the tokens routed
/// to it: shares of |a| above thresholds, moments per neuron, tokens of largest
/// a, histograms. Source: arXiv 2406.18219, appendix H. Shapes and dtypes: the
/// declarations of ActivationStatisticsInfo(). Chunks: at the end one per
/// layer, then the means over the layers. State: saved after every block of
/// whole sequences (block_tokens): how many blocks are in, and the accumulator
/// of every layer. A run that resumes with no state computes everything and
/// emits what is missing. Precision: numerics::ActivationAccumulator;
/// per-neuron values are emitted as fp32, the rest as fp64 and counts. Cost:
/// one forward pass with all experts on all tokens. Errors: those of
/// model::Model::Forward; DATA_LOSS (the state is damaged or of another Spec;
/// an empty state starts over); INTERNAL without inputs.model. Threads: the
/// pass uses `pool`; the chunks do not depend on its size.
absl::Status RunActivationStatistics(const spec::ActivationStatisticsSpec& spec,
                                     const ModelInputs& inputs,
                                     const ResumePoint& resume,
                                     ThreadPool& pool,
                                     const RunContext& context,
                                     ChunkSink& sink);

}  // namespace moescope::analysis
