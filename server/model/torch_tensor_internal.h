#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/safetensors.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::model::internal {

/// Runs `body` the way every use of torch in this layer runs: without autograd,
/// `device` current, library products on one thread, exceptions turned into a
/// status. Errors: RESOURCE_EXHAUSTED (device memory), INTERNAL (anything else
/// thrown), and what `body` returns.
absl::Status RunTorch(c10::Device device,
                      const std::function<absl::Status()>& body);

/// ThreadPool::ParallelFor whose bodies run under RunTorch, each after a look
/// at `context`.
absl::Status ParallelTorch(
    ThreadPool& pool, const RunContext& context, c10::Device device,
    std::int64_t n, const std::function<absl::Status(std::int64_t)>& body);

/// The element type torch uses for `type`.
at::ScalarType ToScalarType(numerics::ElementType type);

/// Elements (r, c) at r · row_stride + c · col_stride of one memory.
struct StridedMemory {
  const void* data = nullptr;
  at::ScalarType type = at::ScalarType::Float;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
};

/// A matrix on `device` in its own number format. On the CPU it is the given
/// memory, and the tensor keeps `owner` alive; it is a copy of the elements on
/// other devices and where `data` is not aligned for them. A view is of plain
/// numbers.
at::Tensor MakeResident(const StridedMemory& memory,
                        std::shared_ptr<const void> owner, c10::Device device);
at::Tensor MakeResident(const numerics::MatrixView& view,
                        std::shared_ptr<const void> owner, c10::Device device);

/// The same for a whole tensor of a file, which must be BF16, F16 or F32.
at::Tensor MakeResident(const TensorEntry& entry,
                        std::shared_ptr<const void> owner, c10::Device device);

/// Copies numbers of the host to `device`.
at::Tensor CopyToDevice(absl::Span<const std::int64_t> values,
                        c10::Device device);
at::Tensor CopyToDevice(absl::Span<const float> values, c10::Device device);

}  // namespace moescope::model::internal
