#include "moescope/numerics/gemm_probe.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <exception>

#include "absl/strings/str_cat.h"

namespace moescope::numerics {
namespace {

constexpr std::int64_t kSize = 1024;

double MeasureUnguarded(absl::Duration duration) {
  using SteadyClock = std::chrono::steady_clock;
  const c10::NoGradGuard no_grad;
  const at::Tensor a = at::ones({kSize, kSize}, at::kFloat);
  const at::Tensor b = at::ones({kSize, kSize}, at::kFloat);
  at::Tensor c = at::empty({kSize, kSize}, at::kFloat);
  at::mm_out(c, a, b);  // touches memory, starts the library
  const SteadyClock::time_point end =
      SteadyClock::now() + absl::ToChronoNanoseconds(duration);
  double best_seconds = 0;
  do {
    const SteadyClock::time_point start = SteadyClock::now();
    at::mm_out(c, a, b);
    const double seconds =
        std::chrono::duration<double>(SteadyClock::now() - start).count();
    best_seconds =
        best_seconds == 0 ? seconds : std::min(best_seconds, seconds);
  } while (SteadyClock::now() < end);
  constexpr double kFlop = 2.0 * kSize * kSize * kSize;
  return kFlop / best_seconds * 1e-9;
}

}  // namespace

absl::StatusOr<double> MeasureGemmGflops(absl::Duration duration) {
  try {
    return MeasureUnguarded(duration);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("matrix product: ", error.what()));
  }
}

}  // namespace moescope::numerics
