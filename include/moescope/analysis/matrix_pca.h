#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `matrix_pca` is, for people and for clients.
spec::AnalysisInfo MatrixPcaInfo();

/// Definition: participants of a routed expert's shape as points, their
/// projection flattened and each coordinate standardised over them (ddof 1; a
/// constant coordinate is 0); two principal components; DBSCAN labels of the
/// scores.
/// Source: arXiv 2406.18219, appendix C.1; DBSCAN as in its public notebook.
/// Shapes and dtypes: the declarations of MatrixPcaInfo().
/// Chunks: one per layer and projection. State: none; chunks that are there are
/// not computed again.
/// Precision: numerics::ComputeGram, ComponentsFromGram; scores leave as fp32.
/// Cost: one reading of the weights; N² multiplications per coordinate.
/// Errors: FAILED_PRECONDITION field spec.participants (a layer without shared
/// experts); INTERNAL (an input is missing); CANCELLED, DEADLINE_EXCEEDED.
/// Threads: uses `pool`; the chunks do not depend on its size.
absl::Status RunMatrixPca(const spec::MatrixPcaSpec& spec,
    const ModelInputs& inputs, const ResumePoint& resume, ThreadPool& pool,
    const RunContext& context, ChunkSink& sink);

}  // namespace moescope::analysis
