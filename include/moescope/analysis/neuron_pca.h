#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `neuron_pca` is, for people and for clients.
spec::AnalysisInfo NeuronPcaInfo();

/// Definition: the neurons of all participants, participant after participant,
/// as points of length D, each coordinate standardised over them (ddof 1);
/// principal components. On request a random sample of the scores (without
/// repetition, each neuron with its number in the pool), and counts of the first
/// two components on an even grid over their ranges, per participant.
/// Source: arXiv 2406.18219, appendix C.2.
/// Shapes and dtypes: the declarations of NeuronPcaInfo().
/// Chunks: one per layer and projection. State: none; chunks that are there are
/// not computed again.
/// Precision: numerics::ComputeNeuronComponents; scores leave as fp32.
/// Cost: two readings of the weights; n D² multiplications for n neurons.
/// Errors: FAILED_PRECONDITION field spec.participants (a layer without shared
/// experts, or fewer than two neurons), spec.dims (longer than a neuron);
/// INTERNAL (an input is missing); CANCELLED, DEADLINE_EXCEEDED.
/// Threads: uses `pool`; the chunks do not depend on its size.
absl::Status RunNeuronPca(const spec::NeuronPcaSpec& spec,
    const ModelInputs& inputs, const ResumePoint& resume, ThreadPool& pool,
    const RunContext& context, ChunkSink& sink);

}  // namespace moescope::analysis
