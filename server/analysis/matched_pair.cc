#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "server/analysis/matched_pair_internal.h"
#include "server/analysis/participants_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/neuron_cosine.h"
#include "moescope/numerics/widen_rows.h"
#include "moescope/spec/analysis_spec.h"

namespace moescope::analysis::internal {
namespace {

// More matchings at once fill no GPU better, and small ones need little.
constexpr std::int64_t kMostDeviceBytes = std::int64_t{4} << 30;

numerics::NeuronPair Neurons(const model::ExpertWeights& left,
                             const model::ExpertWeights& right,
                             model::Projection projection) {
  if (projection == model::Projection::kDown) {
    return {numerics::Transposed(left[projection]),
            numerics::Transposed(right[projection])};
  }
  return {left[projection], right[projection]};
}

absl::StatusOr<MatchedPart> WithoutMatching(
    const std::vector<numerics::NeuronPair>& pairs, ThreadPool& pool,
    const RunContext& context, MatchedPart part) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const numerics::NeuronPair& pair : pairs) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t left,
                              numerics::CountNonfinite(pair.left, pool, context));
    MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t right,
                              numerics::CountNonfinite(pair.right, pool, context));
    part.nonfinite += left + right;
  }
  part.permutation.assign(static_cast<std::size_t>(pairs[0].left.rows), -1);
  part.objective = part.mean_matched_cosine = part.kendall_tau = kNan;
  for (FlattenedCosines& flattened : part.flattened) {
    flattened.before = flattened.after = kNan;
  }
  return part;
}

std::int64_t CountFixedPoints(const std::vector<std::int64_t>& permutation) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < permutation.size(); ++i) {
    count += permutation[i] == static_cast<std::int64_t>(i) ? 1 : 0;
  }
  return count;
}

}  // namespace

std::int64_t MatchingsOnDevice(std::int64_t width, std::int64_t depth,
                               std::int64_t threads) {
  const std::int64_t fit =
      kMostDeviceBytes / numerics::DeviceMatchingBytes(width, depth);
  return std::max<std::int64_t>(1, std::min(threads, fit));
}

absl::StatusOr<MatchedPart> MatchPart(const model::ExpertWeights& left,
                                      const model::ExpertWeights& right,
                                      const std::string& projection,
                                      ThreadPool& pool,
                                      const RunContext& context,
                                      MatchingMemory& memory) {
  std::vector<numerics::NeuronPair> pairs;
  MatchedPart part;
  for (const std::string& name : spec::ProjectionNames()) {
    if (projection == name || projection == "joint") {
      MOESCOPE_ASSIGN_OR_RETURN(const model::Projection which,
                                ParseProjection(name));
      pairs.push_back(Neurons(left, right, which));
      part.flattened.push_back({name, 0, 0});
    }
  }
  const absl::Status filled =
      memory.device.has_value()
          ? numerics::FillCosines(pairs, pool, context, *memory.device)
          : numerics::FillCosines(pairs, pool, context, memory.host);
  // The only argument that a checkpoint's own matrices can make wrong.
  if (absl::IsInvalidArgument(filled)) {
    MOESCOPE_ASSIGN_OR_RETURN(
        part, WithoutMatching(pairs, pool, context, std::move(part)));
    return part.nonfinite > 0 ? absl::StatusOr<MatchedPart>(std::move(part))
                              : absl::InternalError(filled.message());
  }
  MOESCOPE_RETURN_IF_ERROR(filled);
  MOESCOPE_ASSIGN_OR_RETURN(
      numerics::Assignment found,
      memory.device.has_value()
          ? numerics::SolveAssignment(*memory.device, context)
          : numerics::SolveAssignment(memory.host, pool, context));
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    MOESCOPE_ASSIGN_OR_RETURN(
        const numerics::MatchedNeurons matched,
        numerics::CompareMatched(pairs[p], found.permutation, pool, context));
    for (const double cosine : matched.cosines) {
      part.objective += cosine;
    }
    part.flattened[p].before = matched.flattened_before;
    part.flattened[p].after = matched.flattened_after;
  }
  part.mean_matched_cosine =
      part.objective / static_cast<double>(pairs[0].left.rows) /
      static_cast<double>(pairs.size());
  part.kendall_tau = numerics::KendallTauToIdentity(found.permutation);
  part.fixed_points = CountFixedPoints(found.permutation);
  part.objective_quantised = found.objective_quantised;
  part.dual_quantised = found.dual_quantised;
  part.gap = found.gap;
  part.permutation = std::move(found.permutation);
  return part;
}

}  // namespace moescope::analysis::internal
