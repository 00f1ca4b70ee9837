#include "moescope/base/thread_pool.h"

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/mutex.h"

namespace moescope {
namespace {

// One ParallelFor call: indices are handed out in order.
struct Loop {
  const std::function<absl::Status(std::int64_t)>* body = nullptr;
  std::int64_t size = 0;
  std::int64_t next = 0;
  std::int64_t running = 0;
  std::int64_t failed_index = 0;
  absl::Status status;

  bool has_work() const { return next < size && status.ok(); }
};

}  // namespace

struct ThreadPool::State {
  Mutex mutex;
  CondVar changed;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  std::deque<std::shared_ptr<Loop>> loops ABSL_GUARDED_BY(mutex);
  std::vector<std::thread> threads;

  // Runs one index of `loop`; the lock is released while the body runs.
  void RunOne(Loop& loop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const std::int64_t index = loop.next++;
    ++loop.running;
    mutex.Unlock();
    absl::Status status = CatchExceptions([&] { return (*loop.body)(index); });
    mutex.Lock();
    --loop.running;
    if (!status.ok() && (loop.status.ok() || index < loop.failed_index)) {
      loop.status = std::move(status);
      loop.failed_index = index;
    }
    if (loop.running == 0 && !loop.has_work()) {
      changed.NotifyAll();
    }
  }

  void Work() {
    const MutexLock lock(mutex);
    while (!stopping) {
      const auto found = std::find_if(
          loops.begin(), loops.end(),
          [](const std::shared_ptr<Loop>& loop) { return loop->has_work(); });
      if (found == loops.end()) {
        changed.Wait(mutex);
        continue;
      }
      const std::shared_ptr<Loop> loop = *found;
      RunOne(*loop);
    }
  }
};

ThreadPool::ThreadPool(int num_threads)
    : num_threads_(std::max(1, num_threads)),
      state_(std::make_unique<State>()) {
  for (int i = 1; i < num_threads_; ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->Work(); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const MutexLock lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.NotifyAll();
  for (std::thread& thread : state_->threads) {
    thread.join();
  }
}

absl::Status ThreadPool::ParallelFor(
    std::int64_t n, const std::function<absl::Status(std::int64_t)>& body) {
  const auto loop = std::make_shared<Loop>();
  loop->body = &body;
  loop->size = n;
  const MutexLock lock(state_->mutex);
  state_->loops.push_back(loop);
  state_->changed.NotifyAll();
  while (loop->has_work()) {
    state_->RunOne(*loop);
  }
  while (loop->running > 0) {
    state_->changed.Wait(state_->mutex);
  }
  const auto it =
      std::find(state_->loops.begin(), state_->loops.end(), loop);
  state_->loops.erase(it);
  return loop->status;
}

}  // namespace moescope
