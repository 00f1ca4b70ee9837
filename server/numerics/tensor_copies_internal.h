#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace moescope::numerics::internal {

/// A copy of `values` on `device`. [size]
template <class Number>
at::Tensor ToDevice(const std::vector<Number>& values,
                    const at::Device& device) {
  const auto type = c10::CppTypeToScalarType<Number>::value;
  // from_blob wants a mutable pointer; nobody writes through it, and the copy
  // is made before `values` can go.
  return at::from_blob(const_cast<Number*>(values.data()),
                       {static_cast<std::int64_t>(values.size())},
                       at::TensorOptions().dtype(type))
      .to(at::TensorOptions().dtype(type).device(device),
          /*non_blocking=*/false, /*copy=*/true);
}

/// The elements, which are of type Number, row after row. Waits for the device.
template <class Number>
std::vector<Number> ToHost(const at::Tensor& tensor) {
  const at::Tensor near = tensor.to(at::kCPU).contiguous();
  const auto* const begin = near.data_ptr<Number>();
  return {begin, begin + near.numel()};
}

}  // namespace moescope::numerics::internal
