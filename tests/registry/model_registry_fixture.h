#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "moescope/base/mutex.h"
#include "moescope/registry/model_registry.h"
#include "moescope/telemetry/metrics.h"
#include "tests/registry/fake_model_source.h"
#include "tests/testing/fake_clock.h"

namespace moescope {

/// A registry of fakes, and what its tests watch it by.
class ModelRegistryTest : public ::testing::Test {
 protected:
  // Budget 100: a and b fit together, b and c or a and c do not.
  ModelRegistryTest() {
    StartWith(/*minimum_residence=*/absl::Seconds(10));
    context_.set_progress_function([this](const Progress& progress) {
      const MutexLock lock(progress_mutex_);
      stage_ = progress.stage;
      progress_changed_.NotifyAll();
    });
  }

  void StartWith(absl::Duration minimum_residence) {
    auto source = std::make_unique<FakeModelSource>(
        std::map<std::string, std::int64_t>{
            {"a", 40}, {"b", 50}, {"c", 70}, {"huge", 101}});
    source_ = source.get();
    ModelRegistry::Options options;
    options.memory_budget_bytes = 100;
    options.minimum_residence = minimum_residence;
    options.metrics = &metrics_;
    registry_.emplace(options, std::move(source), clock_);
  }

  ModelState StateOf(const std::string& name) {
    return registry_->Get(name)->state;
  }
  /// Acquires on a thread of its own.
  std::thread AcquireLater(const std::string& name, RunContext& context,
                           absl::Status& result) {
    return std::thread([this, name, &context, &result] {
      result = registry_->Acquire(name, 1, context).status();
    });
  }

  /// Waits until context_ has been told of `stage`.
  void AwaitProgress(const std::string& stage) {
    const MutexLock lock(progress_mutex_);
    while (stage_ != stage) {
      progress_changed_.Wait(progress_mutex_);
    }
  }

  FakeClock clock_;
  Metrics metrics_;
  FakeModelSource* source_ = nullptr;
  std::optional<ModelRegistry> registry_;
  RunContext context_;
  Mutex progress_mutex_;
  CondVar progress_changed_;
  std::string stage_;
};

}  // namespace moescope
