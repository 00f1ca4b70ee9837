#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `expert_similarity` is, for people and for clients.
spec::AnalysisInfo ExpertSimilarityInfo();

/// Definition: cosine of flattened projections (level matrix), of mean neurons
/// (neuron_average; neurons are rows of gate_proj and up_proj, columns of
/// down_proj) and of router rows (router), every pair of participants.
/// Source: arXiv 2406.18219, sections 4.1.1, 4.1.2, 4.2, appendices D and E.
/// Shapes and dtypes: the declarations of ExpertSimilarityInfo(). The matrix
/// level leaves out S and F whose shape is not a routed expert's; which
/// participants a matrix holds is said beside it.
/// Chunks: per layer one for each projection, then one for the router, as the
/// levels ask. State: none; chunks that are there are not computed again.
/// Precision: numerics::ComputeGram, RowCosines; emitted as fp32. The cosine
/// with a zero vector is 0; with one that has a non-finite element it is NaN,
/// and the element is counted.
/// Cost: every weight is read once; N²/2 multiplications per coordinate.
/// Errors: FAILED_PRECONDITION field spec.participants (a layer without shared
/// experts); INTERNAL (an input is missing); CANCELLED, DEADLINE_EXCEEDED.
/// Threads: uses `pool`; the chunks do not depend on its size.
absl::Status RunExpertSimilarity(const spec::ExpertSimilaritySpec& spec,
                                 const ModelInputs& inputs,
                                 const ResumePoint& resume, ThreadPool& pool,
                                 const RunContext& context, ChunkSink& sink);

}  // namespace moescope::analysis
