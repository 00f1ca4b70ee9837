#include "server/analysis/ordered_emitter_internal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "moescope/base/thread_pool.h"

namespace moescope::analysis::internal {
namespace {

using ::testing::ElementsAre;

// Numbers of the chunks that came, which are the names of their arrays.
class Numbers final : public ChunkSink {
 public:
  absl::Status Emit(spec::Chunk chunk) override {
    numbers_.push_back(std::stoll(chunk.arrays.at(0).name));
    return numbers_.back() == refused_ ? absl::ResourceExhaustedError("full")
                                       : absl::OkStatus();
  }
  absl::Status SaveState(std::string) override { return absl::OkStatus(); }

  void Refuse(std::int64_t number) { refused_ = number; }
  const std::vector<std::int64_t>& numbers() const { return numbers_; }

 private:
  std::vector<std::int64_t> numbers_;
  std::int64_t refused_ = -1;
};

spec::Chunk Named(std::int64_t number) {
  spec::Chunk chunk;
  chunk.arrays.emplace_back();
  chunk.arrays.back().name = std::to_string(number);
  return chunk;
}

std::vector<std::int64_t> UpTo(std::int64_t count) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), std::int64_t{0});
  return numbers;
}

void WaitUntil(const std::atomic<std::int64_t>& value, std::int64_t least) {
  while (value < least) {
    std::this_thread::yield();
  }
}

// A loop over chunks on a pool.
class OrderedEmitterTest : public ::testing::Test {
 protected:
  absl::Status Run(
      int threads, std::int64_t chunks, std::int64_t ahead,
      const std::function<absl::StatusOr<spec::Chunk>(std::int64_t)>& make) {
    ThreadPool pool(threads);
    OrderedEmitter emitter(0, ahead, sink_, {"test", 0, chunks, "chunks"},
                           context_);
    return pool.ParallelFor(chunks, [&](std::int64_t i) {
      absl::Status status = emitter.Emit(i, [&] { return make(i); });
      given_up_ += status.ok() ? 0 : 1;
      return status;
    });
  }

  Numbers sink_;
  RunContext context_;
  std::atomic<std::int64_t> made_{0};
  std::atomic<std::int64_t> given_up_{0};
};

TEST_F(OrderedEmitterTest, EmitsInOrderWhoeverIsReadyFirst) {
  const absl::Status status = Run(3, 50, 8, [&](std::int64_t i) {
    // Every seventh is ready after the one that follows it.
    WaitUntil(made_, i % 7 == 0 && i < 49 ? i + 1 : 0);
    ++made_;
    return Named(i);
  });

  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_EQ(sink_.numbers(), UpTo(50));
}

TEST_F(OrderedEmitterTest, HasOneThreadNeverWait) {
  const absl::Status status =
      Run(1, 20, 1, [](std::int64_t i) { return Named(i); });

  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_EQ(sink_.numbers(), UpTo(20));
}

TEST_F(OrderedEmitterTest, HoldsBackWhoIsTooFarAhead) {
  constexpr std::int64_t kAhead = 4;
  std::int64_t most = 0;

  const absl::Status status = Run(3, 300, kAhead, [&](std::int64_t i) {
    if (i == 0) {
      // The others make all that may wait, and one each that may not; they get
      // many chances to go on.
      WaitUntil(made_, kAhead + 2);
      for (int chance = 0; chance < 10000; ++chance) {
        std::this_thread::yield();
      }
      most = made_;
    }
    ++made_;
    return Named(i);
  });

  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_EQ(most, kAhead + 2);
  EXPECT_EQ(sink_.numbers(), UpTo(300));
}

TEST_F(OrderedEmitterTest, WakesWhoWaitsWhenCancelled) {
  const absl::Status status = Run(2, 9, 1, [&](std::int64_t i) {
    if (i == 0) {
      WaitUntil(made_, 2);
      context_.token().Cancel(absl::CancelledError("enough"));
      // Hangs unless the other one gives up although nothing was emitted.
      WaitUntil(given_up_, 1);
    }
    ++made_;
    return Named(i);
  });

  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

TEST_F(OrderedEmitterTest, ReturnsTheFailureThatOthersWaitFor) {
  const absl::Status status =
      Run(2, 9, 1, [&](std::int64_t i) -> absl::StatusOr<spec::Chunk> {
        if (i == 0) {
          WaitUntil(made_, 2);
          return absl::DataLossError("torn");
        }
        ++made_;
        return Named(i);
      });

  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(sink_.numbers().empty());
}

TEST_F(OrderedEmitterTest, EmitsAnEarlierChunkAfterALaterOneFailed) {
  const absl::Status status =
      Run(2, 2, 4, [&](std::int64_t i) -> absl::StatusOr<spec::Chunk> {
        if (i == 1) {
          return absl::DataLossError("torn");
        }
        WaitUntil(given_up_, 1);
        return Named(i);
      });

  EXPECT_EQ(status, absl::DataLossError("torn"));
  EXPECT_THAT(sink_.numbers(), ElementsAre(0));
}

TEST_F(OrderedEmitterTest, ReturnsWhatOthersWaitForAndIsThrown) {
  const absl::Status status =
      Run(2, 9, 1, [&](std::int64_t i) -> absl::StatusOr<spec::Chunk> {
        if (i == 0) {
          WaitUntil(made_, 2);
          throw std::bad_alloc();
        }
        ++made_;
        return Named(i);
      });

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(OrderedEmitterTest, StopsWhenTheSinkRefuses) {
  sink_.Refuse(3);

  const absl::Status status =
      Run(3, 100, 2, [](std::int64_t i) { return Named(i); });

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(sink_.numbers(), ElementsAre(0, 1, 2, 3));
}

// One of two jobs that share a pool, with loops within its chunks.
void RunJob(ThreadPool& pool, Numbers& sink) {
  const RunContext context;
  OrderedEmitter emitter(0, 1, sink, {"test", 0, 60, "chunks"}, context);
  const absl::Status status = pool.ParallelFor(60, [&](std::int64_t i) {
    return emitter.Emit(i, [&]() -> absl::StatusOr<spec::Chunk> {
      const absl::Status inner = pool.ParallelFor(
          1 + i % 5, [](std::int64_t) { return absl::OkStatus(); });
      return inner.ok() ? absl::StatusOr<spec::Chunk>(Named(i)) : inner;
    });
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST(OrderedEmitterPoolTest, LetsTwoJobsWithInnerLoopsShareAPool) {
  ThreadPool pool(3);
  Numbers first;
  Numbers second;

  std::thread other([&] { RunJob(pool, second); });
  RunJob(pool, first);
  other.join();

  EXPECT_EQ(first.numbers(), UpTo(60));
  EXPECT_EQ(second.numbers(), UpTo(60));
}

}  // namespace
}  // namespace moescope::analysis::internal
