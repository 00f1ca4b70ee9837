#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `neuron_weight_statistics` is, for people and for clients.
spec::AnalysisInfo NeuronWeightStatisticsInfo();

/// Definition: L2 norm of every neuron; mean, standard deviation (ddof 0),
/// smallest, largest and quantiles (linear interpolation) of the norms;
/// Frobenius norm of the projection; effective rank
/// exp(−Σ p ln p) with p = s² / Σ s² of its singular values s.
/// Shapes and dtypes: the declarations of NeuronWeightStatisticsInfo().
/// Participants whose shape is not a routed expert's are left out.
/// Chunks: one per layer and projection. State: none; chunks that are there are
/// not computed again.
/// Precision: numerics::ComputeGram, ComputeSpectrum; summaries of the norms in
/// fp64; norms are emitted as fp32. A participant with a
/// non-finite element has NaN figures, and the element is counted.
/// Cost: one reading of the weights; with effective_rank F D min(F, D)
/// multiplications and the eigenvalues of min(F, D)² per participant.
/// Errors: FAILED_PRECONDITION field spec.participants (a layer without shared
/// experts); INTERNAL (an input is missing); CANCELLED, DEADLINE_EXCEEDED.
/// Threads: uses `pool`; the chunks do not depend on its size.
absl::Status RunNeuronWeightStatistics(
    const spec::NeuronWeightStatisticsSpec& spec, const ModelInputs& inputs,
    const ResumePoint& resume, ThreadPool& pool, const RunContext& context,
    ChunkSink& sink);

}  // namespace moescope::analysis
