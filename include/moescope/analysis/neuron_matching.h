#pragma once

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/schema.h"

namespace moescope::analysis {

/// What `neuron_matching` is, for people and for clients.
spec::AnalysisInfo NeuronMatchingInfo();

/// Definition: for each pair (j, k) of participants the permutation of k's
/// neurons that maximises the sum of cosines with j's, per projection and
/// jointly for the sum of the three (which leaves k's function unchanged), with
/// its proof of optimality; cosine of the flattened matrices before and after,
/// their growth, Kendall's tau of the permutation with the identity, and the
/// same matching of Gaussian experts as null.
/// Source: arXiv 2406.18219, section 4.1.2 (reordering), Table 2.
/// Shapes and dtypes: the declarations of NeuronMatchingInfo().
/// Chunks: who takes part; per layer one with what its pairs share and one for
/// each pair, whose arrays join to [P, …]. State: none; pairs that are there
/// are not computed again.
/// Precision: matching by numerics::FillCosines and SolveAssignment; matched
/// and flattened cosines in fp64. With a weight that is not finite a pair has
/// NaN, permutation −1 and zeros for the certificate; such weights are counted.
/// Device: with inputs.device a GPU, cosines and the passes over all pairs of
/// neurons (numerics::DeviceSimilarities) run there; searches, the null and what
/// matched neurons are compared by stay on the host. Which of several optimal
/// permutations comes out may then differ from the host's.
/// Cost: 2 F² D flops per pair and projection, and a few passes over F². One
/// cost matrix (4 F² bytes) per thread; on a GPU, too, as long as all take no
/// more than 4 GiB there (numerics::DeviceMatchingBytes), at least one. 16
/// chunks, or 4 per thread if that is more, wait for a slow pair, then threads do.
/// Errors: FAILED_PRECONDITION field spec.participants (no shared experts in a
/// layer, or of another width than a routed expert); INTERNAL (an input is
/// missing, library failure); RESOURCE_EXHAUSTED reason OUT_OF_DEVICE_MEMORY;
/// CANCELLED, DEADLINE_EXCEEDED.
/// Threads: pairs run side by side on `pool`, and what is within a pair where
/// there are fewer of these than threads; the chunks do not depend on its size.
absl::Status RunNeuronMatching(const spec::NeuronMatchingSpec& spec,
                               const ModelInputs& inputs,
                               const ResumePoint& resume, ThreadPool& pool,
                               const RunContext& context, ChunkSink& sink);

}  // namespace moescope::analysis
