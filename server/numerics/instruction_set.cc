#include "moescope/numerics/instruction_set.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/numerics/instruction_set.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "moescope/base/error.h"
#include "server/numerics/instruction_set_internal.h"

HWY_BEFORE_NAMESPACE();
namespace moescope::numerics::HWY_NAMESPACE {
std::int64_t CompiledTarget() { return HWY_TARGET; }
}  // namespace moescope::numerics::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace moescope::numerics {
namespace {

HWY_EXPORT(CompiledTarget);

constexpr char kNativeBFloat16[] = "avx512_bf16";

// Raised whenever the arithmetic of this layer changes in its last bits.
constexpr int kKernelVersion = 8;

// Cleared by a test that forces a plainer set. Relaxed is enough: the contract
// forbids a change while kernels run.
std::atomic<bool> native_bfloat16_allowed{true};

bool ProcessorHasBFloat16() {
#if defined(__x86_64__)
  static const bool found = __builtin_cpu_supports("avx512bf16") != 0;
  return found;
#else
  return false;
#endif
}

std::string TargetName(std::int64_t target) {
  const std::string name = absl::AsciiStrToLower(hwy::TargetName(target));
  return name == "avx3" ? "avx512" : name;
}

}  // namespace

namespace internal {

bool UseNativeBFloat16() {
  return ProcessorHasBFloat16() &&
         native_bfloat16_allowed.load(std::memory_order_relaxed) &&
         TargetName(HWY_DYNAMIC_DISPATCH(CompiledTarget)()) == "avx512";
}

}  // namespace internal

std::string KernelInstructionSet() {
  return internal::UseNativeBFloat16()
             ? kNativeBFloat16
             : TargetName(HWY_DYNAMIC_DISPATCH(CompiledTarget)());
}

std::string KernelClass() {
  return absl::StrCat(KernelInstructionSet(), "/", kKernelVersion);
}

std::vector<std::string> AvailableInstructionSets() {
  std::vector<std::string> names;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (TargetName(target) == "avx512" && ProcessorHasBFloat16()) {
      names.emplace_back(kNativeBFloat16);
    }
    names.push_back(TargetName(target));
  }
  return names;
}

absl::Status ForceInstructionSetForTest(absl::string_view name) {
  if (name.empty()) {
    native_bfloat16_allowed.store(true, std::memory_order_relaxed);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    return absl::OkStatus();
  }
  const bool native = name == kNativeBFloat16 && ProcessorHasBFloat16();
  const absl::string_view wanted = native ? "avx512" : name;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (TargetName(target) == wanted) {
      native_bfloat16_allowed.store(native, std::memory_order_relaxed);
      hwy::GetChosenTarget().Update(target);
      return absl::OkStatus();
    }
  }
  return InvalidField(
      "instruction_set",
      absl::StrCat("\"", name, "\" is not one of ",
                   absl::StrJoin(AvailableInstructionSets(), ", ")));
}

}  // namespace moescope::numerics
#endif  // HWY_ONCE
