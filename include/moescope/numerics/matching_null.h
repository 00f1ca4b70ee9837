#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"

namespace moescope::numerics {

/// Widths above this are extrapolated to.
inline constexpr std::int64_t kMaxSimulatedWidth = 2048;

/// Mean matched cosine of optimally matched unrelated neurons.
struct MatchingNull {
  double single_mean = 0;  ///< One projection.
  double single_sd = 0;    ///< Over draws, ddof 1.
  double joint_mean = 0;   ///< Sum of three projections, divided by 3.
  double joint_sd = 0;
  /// Largest width drawn: the width asked for, or less where extrapolated.
  std::int64_t simulated_width = 0;
  /// Bounds on how far the extrapolated means may be off (0 where simulated):
  /// what the same extrapolation misses one step earlier, in proportion, plus
  /// two standard errors of the means that it starts from.
  double single_error = 0;
  double joint_error = 0;
  /// The same for the standard deviations: by how much their law is off per
  /// doubling of the widths drawn, over the doublings beyond these, plus two
  /// standard errors of the deviation that it starts from.
  double single_sd_error = 0;
  double joint_sd_error = 0;
};

/// Definition: per draw six matrices [width, depth] of independent standard
/// Gaussian numbers are matched in pairs (three single values) and together
/// (one joint value). Above kMaxSimulatedWidth, widths of that and a
/// half and a quarter of it are drawn, and means go on linearly in
/// √(2 ln width), the growth of a largest of so many Gaussian numbers; standard
/// deviations fall as width^-0.63, which fits what is drawn of 64 to 1024
/// neurons within 5 %.
/// Source: null of the reordering of arXiv 2406.18219, section 4.1.2.
/// Units and range: seed ≥ 0 names the stream; draws ≥ 2.
/// Cost: 8 · 2 width² depth flops and four assignments a draw.
/// Memory: for each thread six matrices and what FillCosines and
/// SolveAssignment need, 4 (6 width depth + width²) bytes and more.
/// Errors: INVALID_ARGUMENT; CANCELLED, DEADLINE_EXCEEDED; INTERNAL (library).
/// Threads: draws are shared out through `pool`; the same for any number.
absl::StatusOr<MatchingNull> SimulateMatchingNull(
    std::int64_t width, std::int64_t depth, std::int64_t draws,
    std::int64_t seed, ThreadPool& pool, const RunContext& context);

}  // namespace moescope::numerics
