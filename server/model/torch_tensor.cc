#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <cstring>
#include <utility>

#include "absl/status/statusor.h"
#include "server/model/torch_tensor_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/torch_errors.h"

namespace moescope::model::internal {
namespace {

// OpenMP keeps this number per thread, so every thread of ours that comes here
// for the first time still has the default, all cores.
void UseOneLibraryThread() {
  if (at::get_num_threads() != 1) {
    at::set_num_threads(1);
  }
}

at::Tensor CopyElements(const StridedMemory& memory, std::size_t element_bytes,
                        const at::TensorOptions& options) {
  at::Tensor copy = at::empty({memory.rows, memory.cols}, options);
  auto* target = static_cast<std::byte*>(copy.data_ptr());
  const auto* const source = static_cast<const std::byte*>(memory.data);
  const auto size = static_cast<std::int64_t>(element_bytes);
  const bool whole_rows = memory.col_stride == 1;
  const std::int64_t runs = whole_rows ? 1 : memory.cols;
  const std::int64_t run_bytes = whole_rows ? memory.cols * size : size;
  for (std::int64_t row = 0; row < memory.rows; ++row) {
    for (std::int64_t i = 0; i < runs; ++i) {
      std::memcpy(target,
                  source + (row * memory.row_stride + i * memory.col_stride) *
                               size,
                  static_cast<std::size_t>(run_bytes));
      target += run_bytes;
    }
  }
  return copy;
}

}  // namespace

absl::Status RunTorch(c10::Device device,
                      const std::function<absl::Status()>& body) {
  return numerics::CatchTorchErrors([&] {
    const c10::InferenceMode inference;
    const c10::DeviceGuard guard(device);
    UseOneLibraryThread();
    return body();
  });
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

at::Tensor MakeResident(const StridedMemory& memory,
                        std::shared_ptr<const void> owner, c10::Device device) {
  const std::size_t element_bytes = c10::elementSize(memory.type);
  const at::TensorOptions options = at::TensorOptions().dtype(memory.type);
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(memory.data) % element_bytes == 0;
  if (!aligned) {
    // Into fresh, aligned memory: a typed read here would be undefined
    // behaviour.
    return CopyElements(memory, element_bytes, options).to(device);
  }
  const at::Tensor mapped = at::from_blob(
      // from_blob wants a mutable pointer; nobody writes through it.
      const_cast<void*>(memory.data), {memory.rows, memory.cols},
      {memory.row_stride, memory.col_stride},
      [owner = std::move(owner)](void*) {}, options);
  return device.is_cpu() ? mapped : mapped.to(device).contiguous();
}

at::Tensor MakeResident(const numerics::MatrixView& view,
                        std::shared_ptr<const void> owner, c10::Device device) {
  return MakeResident({view.data, ToScalarType(view.type), view.rows, view.cols,
                       view.row_stride, view.col_stride},
                      std::move(owner), device);
}

at::Tensor MakeResident(const TensorEntry& entry,
                        std::shared_ptr<const void> owner, c10::Device device) {
  at::ScalarType type = at::kFloat;
  if (entry.dtype == TensorDtype::kBF16) {
    type = at::kBFloat16;
  } else if (entry.dtype == TensorDtype::kF16) {
    type = at::kHalf;
  }
  const std::int64_t cols = entry.shape.back();
  if (entry.shape.size() == 1) {
    return MakeResident({entry.data, type, 1, cols, cols, 1}, std::move(owner),
                        device)
        .select(0, 0);
  }
  return MakeResident({entry.data, type, entry.shape[0], cols, cols, 1},
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
