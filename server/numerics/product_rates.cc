#include "moescope/numerics/product_rates.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/numerics/bfloat16_panels_internal.h"
#include "server/numerics/instruction_set_internal.h"

namespace moescope::numerics {
namespace {

using internal::BFloat16Panels;
using internal::kLeftLines;
using internal::kPanelLines;
using internal::kRightLines;

constexpr std::int64_t kNeurons = 576;
constexpr std::int64_t kDepth = 2048;
constexpr int kRounds = 3;
static_assert(kNeurons % kRightLines == 0 && kNeurons % kLeftLines == 0);

bool IsAmd() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd") != 0;
#else
  return false;
#endif
}

// Relaxed is enough: the contract forbids a change while kernels run.
std::atomic<bool>& Wanted() {
  static std::atomic<bool> wanted{IsAmd()};
  return wanted;
}

template <typename Work>
double Gflops(Work work) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  work();
  const double seconds =
      std::chrono::duration<double>(Clock::now() - start).count();
  return 2.0 * kNeurons * kNeurons * kDepth / seconds * 1e-9;
}

BFloat16Panels Ones() {
  // 0x3f80 is 1.
  const std::vector<std::uint16_t> ones(
      static_cast<std::size_t>(kNeurons * kDepth), 0x3f80);
  BFloat16Panels panels;
  panels.Resize(kNeurons, kDepth);
  const MatrixView view = {ones.data(), ElementType::kBFloat16, kNeurons, kDepth,
                           kDepth};
  for (std::int64_t p = 0; p * kPanelLines < kNeurons; ++p) {
    panels.Pack(view, {0, kNeurons, 0, kDepth}, p);
  }
  return panels;
}

ProductRates MeasureUnguarded() {
  const c10::NoGradGuard no_grad;
  const at::Tensor a = at::ones({kNeurons, kDepth}, at::kFloat);
  const at::Tensor b = at::ones({kDepth, kNeurons}, at::kFloat);
  at::Tensor c = at::empty({kNeurons, kNeurons}, at::kFloat);
  const bool native = internal::UseNativeBFloat16();
  const BFloat16Panels panels = native ? Ones() : BFloat16Panels();
  std::vector<double> products(static_cast<std::size_t>(kNeurons * kNeurons));
  ProductRates rates;
  // The first round touches the memory and starts the library.
  for (int round = 0; round <= kRounds; ++round) {
    const double fp32 = Gflops([&] { at::mm_out(c, a, b); });
    const double bf16 = !native ? 0 : Gflops([&] {
      internal::MultiplyPanels(panels, {0, kNeurons}, panels, {0, kNeurons},
                               false, products.data(), kNeurons);
    });
    if (round > 0) {
      rates.fp32_gflops = std::max(rates.fp32_gflops, fp32);
      rates.bf16_gflops = std::max(rates.bf16_gflops, bf16);
    }
  }
  return rates;
}

}  // namespace

bool internal::UseBFloat16Panels() {
  return Wanted().load(std::memory_order_relaxed) && UseNativeBFloat16();
}

void ChooseBFloat16Products(bool wanted) {
  Wanted().store(wanted, std::memory_order_relaxed);
}

absl::StatusOr<ProductRates> MeasureProductRates() {
  try {
    return MeasureUnguarded();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("matrix product: ", error.what()));
  }
}

}  // namespace moescope::numerics
