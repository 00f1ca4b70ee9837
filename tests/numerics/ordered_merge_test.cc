#include "server/numerics/ordered_merge_internal.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"

#include "moescope/base/mutex.h"
#include "moescope/base/thread_pool.h"

namespace moescope::numerics::internal {
namespace {

using ::testing::ElementsAre;

constexpr std::int64_t kTasks = 200;
constexpr std::int64_t kSlots = 3;

class OrderedMergeTest : public testing::Test {
 protected:
  OrderedMerge<std::int64_t> merge_{
      kSlots, [this](const std::int64_t& part) { merged_.push_back(part); }};
  std::vector<std::int64_t> merged_;
  ThreadPool pool_{4};
};

TEST_F(OrderedMergeTest, TakesPartsInOrderWhoeverEndsFirst) {
  Mutex mutex;
  CondVar changed;
  bool second_ended = false;
  const absl::Status status = pool_.ParallelFor(2, [&](std::int64_t number) {
    const absl::Status run = merge_.Run(number, [&](std::int64_t& part) {
      const MutexLock lock(mutex);
      while (number == 0 && !second_ended) {
        changed.Wait(mutex);
      }
      part = number;
      return absl::OkStatus();
    });
    const MutexLock lock(mutex);
    second_ended = second_ended || number == 1;
    changed.NotifyAll();
    return run;
  });

  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_THAT(merged_, ElementsAre(0, 1));
}

TEST_F(OrderedMergeTest, MergesEveryPartOnceWithFewSlots) {
  const absl::Status status =
      pool_.ParallelFor(kTasks, [&](std::int64_t number) {
        return merge_.Run(number, [number](std::int64_t& part) {
          part = number;
          return absl::OkStatus();
        });
      });

  EXPECT_EQ(status, absl::OkStatus());
  std::vector<std::int64_t> all(kTasks);
  for (std::int64_t i = 0; i < kTasks; ++i) {
    all[static_cast<std::size_t>(i)] = i;
  }
  EXPECT_EQ(merged_, all);
}

TEST_F(OrderedMergeTest, EndsTheWaitingOfLaterTasksWhenOneFails) {
  const absl::Status status =
      pool_.ParallelFor(kTasks, [&](std::int64_t number) {
        return merge_.Run(number, [number](std::int64_t& part) {
          part = number;
          return number == 20 ? absl::DeadlineExceededError("late")
                              : absl::OkStatus();
        });
      });

  EXPECT_EQ(status, absl::DeadlineExceededError("late"));
  EXPECT_TRUE(std::is_sorted(merged_.begin(), merged_.end()));
  EXPECT_LE(merged_.size(), 20U);
}

TEST_F(OrderedMergeTest, TakesAnExceptionForAFailure) {
  const absl::Status status =
      pool_.ParallelFor(kTasks, [&](std::int64_t number) {
        return merge_.Run(number, [number](std::int64_t&) -> absl::Status {
          if (number == 5) {
            throw std::bad_alloc();
          }
          return absl::OkStatus();
        });
      });

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(OrderedMergeTest, GivesEachTaskAPartAsAnEarlierOneLeftIt) {
  ThreadPool alone(1);
  std::vector<std::int64_t> found;
  const absl::Status status = alone.ParallelFor(6, [&](std::int64_t number) {
    return merge_.Run(number, [&](std::int64_t& part) {
      found.push_back(part);
      part = number + 10;
      return absl::OkStatus();
    });
  });

  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_THAT(found, ElementsAre(0, 0, 0, 10, 11, 12));
}

}  // namespace
}  // namespace moescope::numerics::internal
