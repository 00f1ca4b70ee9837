#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/model/torch_tensor_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

// OpenMP keeps this number per thread, so every thread of ours that comes here
// for the first time still has the default, all cores.
void UseOneLibraryThread() {
  if (at::get_num_threads() != 1) {
    at::set_num_threads(1);
  }
}

absl::Status DeviceMemoryError(const char* what) {
  ErrorDetails details;
  details.reason = "OUT_OF_DEVICE_MEMORY";
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("out of device memory: ", what), details);
}

at::Tensor MakeResident(const void* data, at::IntArrayRef sizes,
                        at::IntArrayRef strides, at::ScalarType type,
                        std::shared_ptr<const void> owner, c10::Device device) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  const std::size_t element_bytes = c10::elementSize(type);
  const at::TensorOptions options = at::TensorOptions().dtype(type);
  // from_blob wants a mutable pointer; nobody writes through it.
  void* const memory = const_cast<void*>(data);
  if (address % element_bytes != 0) {
    TORCH_CHECK(strides.back() == 1, "strided elements are not aligned");
    // Row by row into fresh, aligned memory: a typed read here would be
    // undefined behaviour.
    at::Tensor copy = at::empty(sizes, options);
    const std::int64_t rows = sizes.size() == 2 ? sizes[0] : 1;
    const auto row_bytes =
        static_cast<std::size_t>(sizes.back()) * element_bytes;
    auto* target = static_cast<std::byte*>(copy.data_ptr());
    for (std::int64_t row = 0; row < rows; ++row) {
      std::memcpy(
          target + static_cast<std::size_t>(row) * row_bytes,
          static_cast<const std::byte*>(data) +
              static_cast<std::size_t>(row * strides[0]) * element_bytes,
          row_bytes);
    }
    return copy.to(device);
  }
  const at::Tensor mapped = at::from_blob(
      memory, sizes, strides, [owner = std::move(owner)](void*) {}, options);
  return device.is_cpu() ? mapped : mapped.to(device).contiguous();
}

}  // namespace

absl::Status RunTorch(c10::Device device,
                      const std::function<absl::Status()>& body) {
  try {
    const c10::InferenceMode inference;
    const c10::DeviceGuard guard(device);
    UseOneLibraryThread();
    return body();
  } catch (const c10::OutOfMemoryError& error) {
    return DeviceMemoryError(error.what_without_backtrace());
  } catch (const std::bad_alloc& error) {
    return DeviceMemoryError(error.what());
  } catch (const c10::Error& error) {
    // The CPU allocator has no exception of its own.
    if (absl::StrContains(error.what_without_backtrace(),
                          "DefaultCPUAllocator: can't allocate memory")) {
      return DeviceMemoryError(error.what_without_backtrace());
    }
    return absl::InternalError(
        absl::StrCat("torch: ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("torch: ", error.what()));
  }
}

absl::Status ParallelTorch(
    ThreadPool& pool, const RunContext& context, c10::Device device,
    std::int64_t n, const std::function<absl::Status(std::int64_t)>& body) {
  return pool.ParallelFor(n, [&](std::int64_t index) -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    return RunTorch(device, [&] { return body(index); });
  });
}

at::ScalarType ToScalarType(numerics::ElementType type) {
  switch (type) {
    case numerics::ElementType::kBFloat16:
      return at::kBFloat16;
    case numerics::ElementType::kFloat16:
      return at::kHalf;
    default:
      break;
  }
  return at::kFloat;
}

at::Tensor MakeResident(const numerics::MatrixView& view,
                        std::shared_ptr<const void> owner, c10::Device device) {
  TORCH_CHECK(!numerics::IsQuantised(view.type), "a matrix is quantised");
  return MakeResident(view.data, {view.rows, view.cols},
                      {view.row_stride, view.col_stride},
                      ToScalarType(view.type), std::move(owner), device);
}

at::Tensor MakeResident(const TensorEntry& entry,
                        std::shared_ptr<const void> owner, c10::Device device) {
  at::ScalarType type = at::kFloat;
  if (entry.dtype == TensorDtype::kBF16) {
    type = at::kBFloat16;
  } else if (entry.dtype == TensorDtype::kF16) {
    type = at::kHalf;
  }
  if (entry.shape.size() == 1) {
    return MakeResident(entry.data, entry.shape, {1}, type, std::move(owner),
                        device);
  }
  return MakeResident(entry.data, entry.shape, {entry.shape[1], 1}, type,
                      std::move(owner), device);
}

at::Tensor CopyToDevice(absl::Span<const std::int64_t> values,
                        c10::Device device) {
  const at::Tensor host = at::empty({static_cast<std::int64_t>(values.size())},
                                    at::TensorOptions().dtype(at::kLong));
  if (!values.empty()) {
    std::memcpy(host.data_ptr(), values.data(),
                values.size() * sizeof(values[0]));
  }
  return host.to(device);
}

at::Tensor CopyToDevice(absl::Span<const float> values, c10::Device device) {
  const at::Tensor host = at::empty({static_cast<std::int64_t>(values.size())},
                                    at::TensorOptions().dtype(at::kFloat));
  if (!values.empty()) {
    std::memcpy(host.data_ptr(), values.data(),
                values.size() * sizeof(values[0]));
  }
  return host.to(device);
}

}  // namespace moescope::model::internal
