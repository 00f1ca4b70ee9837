#include "moescope/numerics/device_similarities.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "moescope/base/status_macros.h"
#include "moescope/numerics/torch_errors.h"
#include "server/numerics/assignment_solver_internal.h"
#include "server/numerics/neuron_cosine_internal.h"
#include "server/numerics/tensor_cosines_internal.h"
#include "server/numerics/tensor_costs_internal.h"

namespace moescope::numerics {

struct DeviceSimilarities::Memory {
  at::Tensor costs;  // int32 [F, F]
};

namespace {

absl::Status RunOn(
    const std::string& device,
    const std::function<absl::Status(const c10::Device& place)>& body) {
  return CatchTorchErrors([&] {
    const c10::Device place(device);
    const c10::NoGradGuard no_grad;  // Of this thread, as the device.
    const c10::DeviceGuard guard(place);
    return body(place);
  });
}

}  // namespace

DeviceSimilarities::DeviceSimilarities(std::string device)
    : device_(std::move(device)), memory_(std::make_unique<Memory>()) {}
DeviceSimilarities::~DeviceSimilarities() = default;
DeviceSimilarities::DeviceSimilarities(DeviceSimilarities&&) noexcept = default;
DeviceSimilarities& DeviceSimilarities::operator=(
    DeviceSimilarities&&) noexcept = default;

std::int64_t DeviceSimilarities::size() const {
  return memory_->costs.defined() ? memory_->costs.size(0) : 0;
}

std::int64_t DeviceMatchingBytes(std::int64_t size, std::int64_t depth) {
  return 4 * size * size + 4 * size * depth +
         8 * std::min(size, internal::kTensorBlockRows) * depth +
         16 * std::min(size * size,
                       std::max(size, internal::kTensorBlockEntries)) +
         64 * size;
}

absl::Status FillCosines(absl::Span<const NeuronPair> pairs, ThreadPool& pool,
                         const RunContext& context, DeviceSimilarities& out) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckPairs(pairs));
  const std::int64_t size = pairs[0].left.rows;
  return RunOn(out.device(), [&](const c10::Device& place) -> absl::Status {
    at::Tensor& costs = out.memory().costs;
    if (!costs.defined() || costs.size(0) != size) {
      costs = at::Tensor();
      costs = at::empty({size, size},
                        at::TensorOptions().dtype(at::kInt).device(place));
    }
    return size == 0 ? absl::OkStatus()
                     : internal::FillTensorCosines(
                           pairs, internal::kTensorBlockRows, pool, context,
                           costs);
  });
}

absl::StatusOr<Assignment> SolveAssignment(DeviceSimilarities& similarities,
                                           const RunContext& context) {
  Assignment assignment;
  if (similarities.size() == 0) {
    return assignment;
  }
  MOESCOPE_RETURN_IF_ERROR(
      RunOn(similarities.device(), [&](const c10::Device&) -> absl::Status {
        internal::TensorCosts costs(similarities.memory().costs);
        MOESCOPE_ASSIGN_OR_RETURN(
            internal::Solution solution,
            internal::SolveCosts(costs, internal::SolverOptions(), context));
        assignment = internal::ToAssignment(std::move(solution), costs);
        return absl::OkStatus();
      }));
  return assignment;
}

}  // namespace moescope::numerics
