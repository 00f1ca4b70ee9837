#include "moescope/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/error.h"

namespace moescope {
namespace {

TEST(ThreadPoolTest, RunsEveryIndexOnce) {
  ThreadPool pool(3);
  std::vector<int> counts(1000, 0);
  const absl::Status status = pool.ParallelFor(1000, [&](std::int64_t i) {
    ++counts[static_cast<std::size_t>(i)];
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(counts, std::vector<int>(1000, 1));
}

TEST(ThreadPoolTest, AnEmptyLoopIsFine) {
  ThreadPool pool(2);
  EXPECT_TRUE(pool.ParallelFor(0, [](std::int64_t) {
                    return absl::InternalError("never");
                  }).ok());
}

TEST(ThreadPoolTest, StopsAfterTheFirstFailureAndReturnsIt) {
  ThreadPool pool(1);
  std::int64_t last = -1;
  const absl::Status status = pool.ParallelFor(100, [&](std::int64_t i) {
    last = i;
    return i == 7 ? absl::DataLossError(absl::StrCat("index ", i))
                  : absl::OkStatus();
  });
  EXPECT_EQ(status, absl::DataLossError("index 7"));
  EXPECT_EQ(last, 7);
}

TEST(ThreadPoolTest, LoopsInsideLoopsFinish) {
  ThreadPool pool(2);
  std::atomic<int> total{0};
  const absl::Status status = pool.ParallelFor(8, [&](std::int64_t) {
    return pool.ParallelFor(8, [&](std::int64_t) {
      total.fetch_add(1);
      return absl::OkStatus();
    });
  });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(total.load(), 64);
}

TEST(ThreadPoolTest, ExceptionsBecomeTheStatus) {
  ThreadPool pool(2);
  const absl::Status memory = pool.ParallelFor(
      4, [](std::int64_t) -> absl::Status { throw std::bad_alloc(); });
  EXPECT_EQ(memory.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetails(memory).reason, "OUT_OF_MEMORY");

  const absl::Status other = pool.ParallelFor(4, [](std::int64_t i) {
    if (i == 2) {
      throw std::runtime_error("beyond the table");
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(other.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(other.message(), "exception: beyond the table");
}

// As libtorch's allocator says it; it has no exception of its own for it.
TEST(CatchExceptionsTest, TakesTorchsWordsForMissingMemory) {
  const absl::Status status = CatchExceptions([]() -> absl::Status {
    throw std::runtime_error(
        "[enforce fail at alloc_cpu.cpp:66] . DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 411041792 bytes.");
  });

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetails(status).reason, "OUT_OF_MEMORY");
}

TEST(ThreadPoolTest, SeveralCallersShareIt) {
  ThreadPool pool(2);
  std::atomic<int> total{0};
  const auto run = [&] {
    const absl::Status status = pool.ParallelFor(500, [&](std::int64_t) {
      total.fetch_add(1);
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok());
  };
  std::thread first(run);
  std::thread second(run);
  first.join();
  second.join();
  EXPECT_EQ(total.load(), 1000);
}

}  // namespace
}  // namespace moescope
