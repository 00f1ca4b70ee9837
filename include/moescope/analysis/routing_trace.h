#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `routing_trace` is, for people and for clients.
spec::AnalysisInfo RoutingTraceInfo();

/// Definition: the routing of every token in the chosen MoE layers, by the
/// model's own rule. Entropy is −Σ p ln p of the scores divided by their sum;
/// margin the lowest score among the chosen minus the highest among the others,
/// below 0 where a correction or groups decide against the scores (V3), +inf
/// where all are chosen; shared_share |shared| / (|shared| + |routed sum|), L2
/// norms.
/// Where the attention has a router of its own, the same of it under names with
/// "attention_" before them.
/// Shapes and dtypes: the declarations of RoutingTraceInfo().
/// Chunks: the tokens are cut into blocks of whole sequences (block_tokens);
/// per block the token ids with the sequence lengths, then one chunk per layer.
/// State: none. Whole blocks that are there are not computed again; a block
/// that is there in part is computed again and its missing chunks are emitted.
/// Precision: fp32 as the forward pass gives it; entropy and norms summed in
/// fp64.
/// Cost: one forward pass, up to the last chosen layer.
/// Errors: those of model::Model::Forward; INTERNAL without inputs.model.
/// Threads: the pass uses `pool`; the chunks do not depend on its size.
absl::Status RunRoutingTrace(const spec::RoutingTraceSpec& spec,
                             const ModelInputs& inputs,
                             const ResumePoint& resume, ThreadPool& pool,
                             const RunContext& context, ChunkSink& sink);

}  // namespace moescope::analysis
