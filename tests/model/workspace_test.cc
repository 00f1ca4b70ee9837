// Holds the estimate of a pass's workspace against what passes allocate.
#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/version.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "moescope/base/thread_pool.h"
#include "moescope/model/model.h"
#include "tests/model/forward_testing.h"

namespace moescope::model {
namespace {

// The header says so, and only the older libtorch has a const allocate().
#if TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 202
#define MOESCOPE_ALLOCATE_QUALIFIER
#else
#define MOESCOPE_ALLOCATE_QUALIFIER const
#endif

// Whether two threads are at an expert at the same time is a matter of luck,
// which decides most of what the smallest passes take.
constexpr double kLeast = 0.9;
constexpr double kMost = 1.8;
constexpr std::size_t kHeader = 64;  // Also the alignment.

// Counts the bytes of the tensors of this process.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes)
      MOESCOPE_ALLOCATE_QUALIFIER override {
    const std::size_t whole = (bytes + kHeader - 1) / kHeader * kHeader;
    auto* const memory =
        static_cast<char*>(std::aligned_alloc(kHeader, kHeader + whole));
    *reinterpret_cast<std::size_t*>(memory) = bytes;
    const auto now = live_.fetch_add(static_cast<std::int64_t>(bytes)) +
                     static_cast<std::int64_t>(bytes);
    std::int64_t peak = peak_.load();
    while (peak < now && !peak_.compare_exchange_weak(peak, now)) {
    }
    return {memory + kHeader, memory, &Free, c10::Device(c10::kCPU)};
  }
#if TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 202
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
#endif

  // From now on: the most beyond what there is.
  void Start() {
    start_ = live_.load();
    peak_ = start_;
  }
  std::int64_t Peak() const { return peak_.load() - start_; }

 private:
  static void Free(void* memory) {
    live_.fetch_sub(
        static_cast<std::int64_t>(*reinterpret_cast<std::size_t*>(memory)));
    std::free(memory);
  }

  static inline std::atomic<std::int64_t> live_{0};
  static inline std::atomic<std::int64_t> peak_{0};
  std::int64_t start_ = 0;
};

CountingAllocator& Counter() {
  // Tensors that outlive the test need it to their end.
  static auto* const counter = [] {
    auto* const made = new CountingAllocator;
    c10::SetCPUAllocator(made, /*priority=*/255);
    return made;
  }();
  return *counter;
}

class Silent final : public ForwardObserver {};

struct Measured {
  std::int64_t estimate = 0;
  std::int64_t peak = 0;
  double ratio() const {
    return static_cast<double>(estimate) / static_cast<double>(peak);
  }
};

// One pass over `tokens` tokens in sequences of at most `length`, with two
// threads.
Measured Measure(const std::string& folder, std::int64_t tokens,
                 std::int64_t length, bool all_experts) {
  const auto model = LoadTestModel(folder);
  const std::int64_t sequences = std::max<std::int64_t>(1, tokens / length);
  const Sequences input = MakeSequences(
      std::vector<std::int64_t>(static_cast<std::size_t>(sequences),
                                std::min(tokens, length)),
      model->checkpoint().config().vocab_size);
  ForwardRequest request;
  request.layers = {0, 1};
  request.all_experts = all_experts;
  PassSize size;
  size.tokens = tokens;
  size.longest_sequence = std::min(tokens, length);
  size.all_experts = all_experts;
  size.logits = false;
  size.threads = 2;
  ThreadPool pool(2);
  Silent observer;
  Counter().Start();
  const absl::Status ran = model->Forward(input.batch(), request, observer,
                                          pool, RunContext());
  EXPECT_TRUE(ran.ok()) << ran;
  Measured measured;
  measured.peak = Counter().Peak();
  measured.estimate =
      Model::Estimate(model->checkpoint(), "cpu", size).workspace_bytes;
  std::cout << folder << " " << tokens << " tokens, all experts "
            << all_experts << ": " << measured.estimate << " estimated, "
            << measured.peak << " taken, ratio " << measured.ratio() << "\n";
  return measured;
}

struct Case {
  const char* folder;
  std::int64_t tokens;
  std::int64_t length;
};

class WorkspaceTest : public ::testing::TestWithParam<Case> {};

TEST_P(WorkspaceTest, CoversWhatARoutedPassTakes) {
  const Measured measured = Measure(GetParam().folder, GetParam().tokens,
                                    GetParam().length, false);
  EXPECT_GE(measured.ratio(), kLeast);
  EXPECT_LE(measured.ratio(), kMost);
}

TEST_P(WorkspaceTest, CoversWhatAPassThroughAllExpertsTakes) {
  const Measured measured = Measure(GetParam().folder, GetParam().tokens,
                                    GetParam().length, true);
  EXPECT_GE(measured.ratio(), kLeast);
  EXPECT_LE(measured.ratio(), kMost);
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, WorkspaceTest,
    ::testing::Values(Case{"models/tiny-mixtral", 64, 64},
                      Case{"models/tiny-mixtral", 8192, 512},
                      Case{"models/tiny-mixtral", 65536, 256},
                      Case{"models/tiny-deepseek", 64, 64},
                      Case{"models/tiny-deepseek", 8192, 1024},
                      Case{"models/tiny-deepseek", 65536, 256}));

}  // namespace
}  // namespace moescope::model
