// From a band to a tridiagonal matrix: column after column is cleared below its
// first subdiagonal entry, and what that pushes out of the band is chased down
// and out of the matrix.
#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "moescope/base/status_macros.h"
#include "server/numerics/bulge_kernels_internal.h"
#include "server/numerics/symmetric_eigenvalues_internal.h"

namespace moescope::numerics::internal {
namespace {

// Sweeps that go down the band together, so that each part of it is fetched
// once for all of them: their parts fit the second-level cache.
constexpr std::int64_t kGroup = 8;
// A sweep's step n needs step n + 1 of the sweep before it.
constexpr std::int64_t kLag = 2;
constexpr std::int64_t kRoundsPerCheck = 256;

// Sweep s clears column s; its step k applies a reflector to the kBand lines
// from s + 1 + k kBand on. A sweep works on lines that the one before it has
// left for good: which thread runs it makes no difference.
class Chase {
 public:
  Chase(BandMatrix& band, const RunContext& context)
      : band_(band),
        context_(context),
        done_(static_cast<std::size_t>(groups())) {}

  std::int64_t groups() const { return (sweeps() + kGroup - 1) / kGroup; }

  // Sweeps kGroup · group and on. The group before it must be running, or done.
  absl::Status RunGroup(std::int64_t group) {
    const std::int64_t first = group * kGroup;
    const std::int64_t count = std::min(kGroup, sweeps() - first);
    std::array<Reflector, kGroup> reflectors;
    const std::int64_t rounds = StepsOf(first) + kLag * (count - 1);
    for (std::int64_t round = 0; round < rounds; ++round) {
      if (round % kRoundsPerCheck == 0) {
        MOESCOPE_RETURN_IF_ERROR(context_.Check());
      }
      MOESCOPE_RETURN_IF_ERROR(WaitFor(group - 1, round));
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t step = round - kLag * i;
        if (step >= 0 && step < StepsOf(first + i)) {
          Step(first + i, step, reflectors[static_cast<std::size_t>(i)]);
        }
      }
      // What the last sweep of the group wrote is seen by who reads this.
      done_[static_cast<std::size_t>(group)].store(
          std::max<std::int64_t>(0, round + 1 - kLag * (count - 1)),
          std::memory_order_release);
    }
    return absl::OkStatus();
  }

 private:
  std::int64_t sweeps() const { return band_.size() - 2; }

  std::int64_t StepsOf(std::int64_t sweep) const {
    return (band_.size() - 1 - sweep + kBand - 1) / kBand;
  }

  void Step(std::int64_t sweep, std::int64_t step, Reflector& reflector) {
    const std::int64_t line = sweep + 1 + step * kBand;
    if (step == 0) {
      MakeReflector(band_.at(line, sweep), reflector);
    }
    ChaseBulge(band_.at(line, line), reflector);
  }

  // Until the last sweep of `group` is past `step` of the one after it.
  absl::Status WaitFor(std::int64_t group, std::int64_t step) {
    if (group < 0) {
      return absl::OkStatus();
    }
    const std::int64_t needed =
        std::min(step + kLag, StepsOf((group + 1) * kGroup - 1));
    while (done_[static_cast<std::size_t>(group)].load(
               std::memory_order_acquire) < needed) {
      // The other group stops for no other reason than its context.
      MOESCOPE_RETURN_IF_ERROR(context_.Check());
      std::this_thread::yield();
    }
    return absl::OkStatus();
  }

  BandMatrix& band_;
  const RunContext& context_;
  // Steps of the last sweep of each group.
  std::vector<std::atomic<std::int64_t>> done_;
};

}  // namespace

absl::Status ReduceToTridiagonal(BandMatrix& band, ThreadPool& pool,
                                 const RunContext& context) {
  Chase chase(band, context);
  // Groups start in order, as WaitFor needs it.
  return pool.ParallelFor(chase.groups(), [&](std::int64_t group) {
    return chase.RunGroup(group);
  });
}

}  // namespace moescope::numerics::internal
