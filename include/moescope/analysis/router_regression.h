#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `router_regression` is, for people and for clients.
spec::AnalysisInfo RouterRegressionInfo();

/// Definition: per layer and projection the least squares line of y = cosine of
/// mean neurons over x = cosine of router rows, over all pairs of routed experts
/// (lower triangles, row by row); reverse_* with x and y exchanged; Pearson r,
/// r², two-sided p; Mantel permutation p over relabelings of the experts; chance
/// level 1/(pairs − 1). Over the layers the mean of r², once rounded to two
/// decimals first, once not.
/// Source: arXiv 2406.18219, section 4.2, Tables 3 and 5, where r² was rounded
/// before averaging; x and y as its text has them (its notebook exchanges them).
/// Shapes and dtypes: the declarations of RouterRegressionInfo().
/// Chunks: one per layer, then the means. State: after each layer r² of every
/// layer so far; layers that it does not cover are computed again.
/// Precision: numerics::ComputeGram, RowCosines, FitLine, MantelTest.
/// Cost: one reading of the weights, and `draws` E²/2 multiplications.
/// Errors: DATA_LOSS (the state is damaged); INTERNAL (an input is missing);
/// CANCELLED, DEADLINE_EXCEEDED.
/// Threads: uses `pool`; the chunks do not depend on its size.
absl::Status RunRouterRegression(const spec::RouterRegressionSpec& spec,
    const ModelInputs& inputs, const ResumePoint& resume, ThreadPool& pool,
    const RunContext& context, ChunkSink& sink);

}  // namespace moescope::analysis
