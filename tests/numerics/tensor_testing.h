#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

// Where tests of tensors put them: on the CPU, or, in the program that is built
// for it, on a GPU.
#ifndef MOESCOPE_TEST_DEVICE
#define MOESCOPE_TEST_DEVICE "cpu"
#endif

namespace moescope::numerics {

inline const std::string& TestDevice() {
  static const auto* const device = new std::string(MOESCOPE_TEST_DEVICE);
  return *device;
}

/// Skips tests that want a GPU where there is none.
class TensorEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    if (!at::Device(TestDevice()).is_cpu() && !at::hasCUDA()) {
      GTEST_SKIP() << "torch sees no CUDA device";
    }
  }
};
inline const ::testing::Environment* const tensor_environment =
    ::testing::AddGlobalTestEnvironment(new TensorEnvironment);

}  // namespace moescope::numerics
