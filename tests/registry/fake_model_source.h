#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/base/error.h"
#include "moescope/base/mutex.h"
#include "moescope/registry/model_source.h"

namespace moescope {

/// A model without weights that is counted while it exists.
class FakeModel final : public model::Model {
 public:
  FakeModel(std::shared_ptr<const model::Checkpoint> checkpoint,
            std::int64_t weight_bytes, std::shared_ptr<const int> alive)
      : checkpoint_(std::move(checkpoint)),
        weight_bytes_(weight_bytes),
        alive_(std::move(alive)) {}
  const model::Checkpoint& checkpoint() const override { return *checkpoint_; }
  const std::string& device() const override { return device_; }
  std::int64_t weight_bytes() const override { return weight_bytes_; }
  absl::Status Forward(const model::TokenBatch&, const model::ForwardRequest&,
                       model::ForwardObserver&, ThreadPool&,
                       const RunContext&) const override {
    return absl::UnimplementedError("a fake");
  }

 private:
  const std::shared_ptr<const model::Checkpoint> checkpoint_;
  const std::int64_t weight_bytes_;
  const std::shared_ptr<const int> alive_;
  const std::string device_ = "fake";
};

/// Models of the sizes that a test says, loaded at once unless held back.
/// Threads: safe.
class FakeModelSource final : public ModelSource {
 public:
  explicit FakeModelSource(std::map<std::string, std::int64_t> sizes)
      : sizes_(std::move(sizes)) {}

  // --- What a test does ----------------------------------------------------
  /// Loads wait until Release, or until they are cancelled.
  void Hold() {
    const MutexLock lock(mutex_);
    held_ = true;
  }
  void Release() {
    const MutexLock lock(mutex_);
    held_ = false;
    changed_.NotifyAll();
  }
  /// Waits until `count` loads have been started in all.
  void AwaitLoads(int count) {
    const MutexLock lock(mutex_);
    while (loads_ < count) {
      changed_.Wait(mutex_);
    }
  }
  void FailWith(absl::Status failure) {
    const MutexLock lock(mutex_);
    failure_ = std::move(failure);
  }
  /// Weights take so much more than was estimated.
  void MisestimateBy(std::int64_t bytes) {
    const MutexLock lock(mutex_);
    surplus_bytes_ = bytes;
  }
  void ChangeFiles() {
    const MutexLock lock(mutex_);
    ++version_;
  }
  int loads() const {
    const MutexLock lock(mutex_);
    return loads_;
  }
  /// How often somebody looked for models.
  int looks() const {
    const MutexLock lock(mutex_);
    return looks_;
  }
  /// Models that exist now.
  long alive() const { return alive_.use_count() - 1; }

  // --- ModelSource ---------------------------------------------------------
  absl::StatusOr<std::vector<model::ModelFolder>> List() const override {
    CountLook();
    std::vector<model::ModelFolder> folders;
    for (const auto& [name, size] : sizes_) {
      folders.push_back({name, "/" + name});
    }
    return folders;
  }
  absl::StatusOr<model::ModelFolder> Resolve(
      absl::string_view name) const override {
    CountLook();
    if (sizes_.count(std::string(name)) == 0) {
      return FieldError(absl::StatusCode::kNotFound, "model", "no such model");
    }
    return model::ModelFolder{std::string(name), absl::StrCat("/", name)};
  }
  absl::StatusOr<std::string> Fingerprint(
      const model::ModelFolder&) const override {
    const MutexLock lock(mutex_);
    return std::to_string(version_);
  }
  absl::StatusOr<std::shared_ptr<const model::Checkpoint>> Open(
      const model::ModelFolder& folder) const override {
    auto checkpoint = model::Checkpoint::Open(
        MOESCOPE_SOURCE_DIR "/tests/testdata/fixtures/mistral");
    if (checkpoint.ok()) {
      const MutexLock lock(mutex_);
      opened_[checkpoint->get()] = sizes_.at(folder.name);
      kept_.push_back(*checkpoint);
    }
    return checkpoint;
  }
  model::MemoryEstimate Estimate(
      const model::Checkpoint& checkpoint) const override {
    const MutexLock lock(mutex_);
    model::MemoryEstimate estimate;
    estimate.weight_bytes = opened_.at(&checkpoint) - 1;
    estimate.workspace_bytes = 1;
    return estimate;
  }
  absl::StatusOr<std::shared_ptr<const model::Model>> Load(
      std::shared_ptr<const model::Checkpoint> checkpoint, ThreadPool&,
      const RunContext& context) const override {
    context.ReportProgress({"weights", 1, 2, "bytes"});
    const MutexLock lock(mutex_);
    ++loads_;
    changed_.NotifyAll();
    while (held_ && context.Check().ok()) {
      changed_.WaitFor(mutex_, absl::Milliseconds(5));
    }
    if (absl::Status wanted = context.Check(); !wanted.ok()) {
      return wanted;
    }
    if (!failure_.ok()) {
      return failure_;
    }
    const std::int64_t weight_bytes =
        opened_.at(checkpoint.get()) - 1 + surplus_bytes_;
    return std::make_shared<const FakeModel>(std::move(checkpoint),
                                             weight_bytes, alive_);
  }

 private:
  void CountLook() const {
    const MutexLock lock(mutex_);
    ++looks_;
  }

  const std::map<std::string, std::int64_t> sizes_;
  const std::shared_ptr<const int> alive_ = std::make_shared<const int>(0);
  mutable Mutex mutex_;
  mutable CondVar changed_;
  mutable int loads_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable int looks_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable std::map<const model::Checkpoint*, std::int64_t> opened_
      ABSL_GUARDED_BY(mutex_);
  // So that no address is used twice.
  mutable std::vector<std::shared_ptr<const model::Checkpoint>> kept_
      ABSL_GUARDED_BY(mutex_);
  std::int64_t surplus_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  int version_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moescope
