#include <c10/core/Device.h>
#include <torch/version.h>

#include <algorithm>
#include <optional>
#include <string>

#include "moescope/base/memory_limit.h"
#include "moescope/model/compute_info.h"

#if TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 211
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>

#include "server/model/torch_tensor_internal.h"
#endif

namespace moescope::model {

#if TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 211

std::optional<DeviceMemory> MeasureDeviceMemory(const std::string& device) {
  const c10::Device place(device);
  if (place.is_cpu()) {
    return std::nullopt;
  }
  DeviceMemory memory;
  const absl::Status asked = internal::RunTorch(place, [&] {
    constexpr auto kAll =
        static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const auto stats = at::accelerator::getDeviceStats(place.index());
    const auto [free, total] = at::accelerator::getMemoryInfo(place.index());
    const std::int64_t held = stats.reserved_bytes[kAll].current;
    memory.allocated_bytes = stats.allocated_bytes[kAll].current;
    memory.reserved_bytes = held - memory.allocated_bytes;
    memory.free_bytes = static_cast<std::int64_t>(free);
    // Asked one after the other: what moved in between must not show as less
    // than nothing.
    memory.other_bytes = std::max<std::int64_t>(
        0, static_cast<std::int64_t>(total) - memory.free_bytes - held);
    return absl::OkStatus();
  });
  return asked.ok() ? std::make_optional(memory) : std::nullopt;
}

namespace {

std::optional<std::int64_t> TotalGpuBytes(const c10::Device& place) {
  std::int64_t bytes = 0;
  const absl::Status asked = internal::RunTorch(place, [&] {
    // The allocator answers once it has been used.
    const at::Tensor first =
        at::empty({1}, at::TensorOptions().dtype(at::kFloat).device(place));
    const auto [free, total] = at::accelerator::getMemoryInfo(place.index());
    static_cast<void>(free);
    bytes = static_cast<std::int64_t>(total);
    return absl::OkStatus();
  });
  return asked.ok() ? std::make_optional(bytes) : std::nullopt;
}

}  // namespace

#else

namespace {

std::optional<std::int64_t> TotalGpuBytes(const c10::Device& /*place*/) {
  return std::nullopt;
}

}  // namespace

std::optional<DeviceMemory> MeasureDeviceMemory(const std::string& /*device*/) {
  return std::nullopt;
}

#endif

std::optional<std::int64_t> TotalMemoryBytes(const std::string& device) {
  const c10::Device place(device);
  return place.is_cpu() ? MemoryLimitBytes() : TotalGpuBytes(place);
}

}  // namespace moescope::model
