#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `static_suite` is, for people and for clients.
spec::AnalysisInfo StaticSuiteInfo();

/// Definition: expert_similarity at all levels, router_regression,
/// neuron_weight_statistics without effective rank, and matrix_pca, each exactly
/// as by itself, from one reading of the weights.
/// Shapes and dtypes: arrays are called <analysis>/<name of that analysis>.
/// Chunks: per layer one for each projection, then one for router and
/// regression; last the means of the regression. State: as router_regression.
/// A layer whose last chunk is missing is read again.
/// Content hash: with inputs.hasher, all weight files are hashed in the same
/// reading, in the background; the last chunk waits for it.
/// Cost: one reading of the weights; N² multiplications per coordinate.
/// Errors: those of the four. Threads: uses `pool`; the chunks do not depend on
/// its size.
absl::Status RunStaticSuite(const spec::StaticSuiteSpec& spec,
    const ModelInputs& inputs, const ResumePoint& resume, ThreadPool& pool,
    const RunContext& context, ChunkSink& sink);

}  // namespace moescope::analysis
