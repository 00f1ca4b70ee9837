#include "moescope/registry/model_registry.h"

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "moescope/base/error.h"
#include "moescope/base/mutex.h"
#include "moescope/telemetry/metrics.h"
#include "tests/registry/fake_model_source.h"
#include "tests/testing/fake_clock.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

TEST_F(ModelRegistryTest, LoadsOnDemandAndKeepsTheModel) {
  EXPECT_EQ(StateOf("a"), ModelState::kUnloaded);
  ModelHandle handle = *registry_->Acquire("a", 1, context_);
  EXPECT_EQ(handle->device(), "fake");
  EXPECT_EQ(StateOf("a"), ModelState::kReady);
  EXPECT_EQ(registry_->Get("a")->pins, 1);
  EXPECT_EQ(registry_->Get("a")->reserved_bytes, 40);

  handle = ModelHandle();
  ASSERT_TRUE(registry_->Acquire("a", 1, context_).ok());

  EXPECT_EQ(registry_->Get("a")->pins, 0);
  EXPECT_EQ(source_->loads(), 1);
  EXPECT_EQ(registry_->stats().loads, 1);
  EXPECT_EQ(registry_->stats().reserved_bytes, 39);
  EXPECT_EQ(registry_->stats().checkpoints_opened, 1);
}

TEST_F(ModelRegistryTest, TellsReadyModelsWithoutLookingForModels) {
  ASSERT_TRUE(registry_->Load("b", context_).ok());
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  const int looks = source_->looks();

  EXPECT_THAT(registry_->ReadyModels(), ElementsAre("a", "b"));

  EXPECT_EQ(source_->looks(), looks);
}

TEST_F(ModelRegistryTest, LoadingModelIsNotReady) {
  source_->Hold();
  absl::Status result;
  std::thread loader = AcquireLater("a", context_, result);
  source_->AwaitLoads(1);

  EXPECT_THAT(registry_->ReadyModels(), testing::IsEmpty());

  source_->Release();
  loader.join();
}

TEST_F(ModelRegistryTest, TellsWeightsFromWhatIsReserved) {
  const ModelHandle handle = *registry_->Acquire("a", 5, context_);

  EXPECT_EQ(registry_->Get("a")->weight_bytes, 39);
  EXPECT_EQ(registry_->Get("a")->reserved_bytes, 44);
  EXPECT_EQ(registry_->stats().weight_bytes, 39);
  EXPECT_EQ(registry_->stats().reserved_bytes, 44);
}

TEST_F(ModelRegistryTest, CountsLoadsFailuresAndEvictionsInTheMetrics) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  clock_.Advance(absl::Seconds(11));
  ASSERT_TRUE(registry_->Load("c", context_).ok());  // a has to go.
  ASSERT_TRUE(registry_->Unload("c").ok());
  ASSERT_FALSE(registry_->Load("huge", context_).ok());

  const std::string text = metrics_.Serialize();

  EXPECT_THAT(text, HasSubstr("moescope_model_load_seconds_count"
                              "{stage=\"total\"} 2"));
  EXPECT_THAT(text, HasSubstr("moescope_model_evictions_total"
                              "{reason=\"memory\"} 1"));
  EXPECT_THAT(text, HasSubstr("moescope_model_evictions_total"
                              "{reason=\"request\"} 1"));
  EXPECT_THAT(text, HasSubstr("moescope_model_load_failures_total"
                              "{reason=\"MODEL_TOO_LARGE\"} 1"));
}

TEST_F(ModelRegistryTest, AWrongEstimateShowsInTheMetrics) {
  source_->MisestimateBy(39);

  ASSERT_TRUE(registry_->Load("a", context_).ok());

  // 39 bytes of weights and 1 of workspace were expected.
  EXPECT_THAT(metrics_.Serialize(),
              HasSubstr("moescope_model_estimate_error_ratio 1\n"));
  EXPECT_EQ(registry_->stats().weight_bytes, 78);
  EXPECT_EQ(registry_->stats().workspace_bytes, 0);
}

TEST_F(ModelRegistryTest, TellsBeforehandWhetherThereIsRoom) {
  EXPECT_TRUE(registry_->CheckRoom("a").ok());
  const absl::Status refused = registry_->CheckRoom("huge");
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(refused).reason, "MODEL_TOO_LARGE");
  EXPECT_EQ(source_->loads(), 0);
}

TEST_F(ModelRegistryTest, ListsEveryModelWithItsState) {
  ASSERT_TRUE(registry_->Load("b", context_).ok());
  const std::vector<ModelStatus> list = *registry_->List();
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0].name, "a");
  EXPECT_EQ(ModelStateName(list[0].state), "UNLOADED");
  EXPECT_EQ(list[1].name, "b");
  EXPECT_EQ(ModelStateName(list[1].state), "READY");
  EXPECT_EQ(list[1].last_used, clock_.Now());
}

TEST_F(ModelRegistryTest, AnUnknownModelIsNotFoundEverywhere) {
  const absl::Status status = registry_->Acquire("x", 1, context_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetErrorDetails(status).fields[0].field, "model");
  EXPECT_EQ(registry_->Unload("x"), status);
  EXPECT_EQ(registry_->Estimate("x").status(), status);
  EXPECT_EQ(registry_->OpenCheckpoint("x").status(), status);
  EXPECT_EQ(registry_->Get("x").status(), status);
}

TEST_F(ModelRegistryTest, AModelLargerThanTheBudgetIsRefusedUnread) {
  const absl::Status status = registry_->Load("huge", context_);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("needs 101 bytes on cpu; 100 of 100 are free"));
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "MODEL_TOO_LARGE");
  EXPECT_EQ(details.metadata.at("needed_bytes"), "101");
  EXPECT_EQ(details.metadata.at("available_bytes"), "100");
  EXPECT_EQ(details.metadata.at("would_have_to_go"), "");
  EXPECT_EQ(source_->loads(), 0);
  EXPECT_EQ(registry_->stats().refused_too_large, 1);
}

TEST_F(ModelRegistryTest, AnIdleModelMakesRoom) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(registry_->Load("b", context_).ok());
  clock_.Advance(absl::Seconds(10));

  ASSERT_TRUE(registry_->Load("c", context_).ok());

  // 12 are free, b frees 49 and a 39: neither suffices alone.
  EXPECT_EQ(StateOf("c"), ModelState::kReady);
  EXPECT_EQ(StateOf("b"), ModelState::kUnloaded);
  EXPECT_EQ(source_->alive(), 1);
  EXPECT_EQ(registry_->stats().evictions_memory, 2);
  EXPECT_EQ(registry_->stats().reserved_bytes, 69);
}

TEST_F(ModelRegistryTest, APinnedModelStaysAndIsNamed) {
  const ModelHandle pinned = *registry_->Acquire("a", 1, context_);
  clock_.Advance(absl::Minutes(1));

  const absl::Status status = registry_->Load("c", context_);

  EXPECT_EQ(GetErrorDetails(status).reason, "MODEL_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(status).metadata.at("would_have_to_go"), "a");
  EXPECT_EQ(GetErrorDetails(status).metadata.at("available_bytes"), "60");
}

TEST_F(ModelRegistryTest, AModelLoadedJustNowStays) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  clock_.Advance(absl::Seconds(9));
  EXPECT_EQ(GetErrorDetails(registry_->Load("c", context_)).reason,
            "MODEL_TOO_LARGE");
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(registry_->Load("c", context_).ok());
}

TEST_F(ModelRegistryTest, EstimatesWithoutLoading) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  clock_.Advance(absl::Minutes(1));

  const LoadEstimate estimate = *registry_->Estimate("c");

  EXPECT_EQ(estimate.needed_bytes, 70);
  EXPECT_EQ(estimate.memory.workspace_bytes, 1);
  EXPECT_EQ(estimate.available_bytes, 61);
  EXPECT_EQ(estimate.budget_bytes, 100);
  EXPECT_TRUE(estimate.fits);
  EXPECT_THAT(estimate.would_evict, ElementsAre("a"));
  EXPECT_TRUE(registry_->Estimate("a")->fits);
  EXPECT_FALSE(registry_->Estimate("huge")->fits);
  EXPECT_EQ(source_->loads(), 1);
}

TEST_F(ModelRegistryTest, UnloadingGivesTheMemoryBack) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  EXPECT_EQ(source_->alive(), 1);
  ASSERT_TRUE(registry_->Unload("a").ok());
  EXPECT_EQ(source_->alive(), 0);
  EXPECT_EQ(StateOf("a"), ModelState::kUnloaded);
  EXPECT_EQ(registry_->stats().reserved_bytes, 0);
  EXPECT_TRUE(registry_->Unload("a").ok());
}

TEST_F(ModelRegistryTest, APinnedModelIsNotUnloaded) {
  const ModelHandle handle = *registry_->Acquire("a", 1, context_);
  const ModelHandle copy = handle;
  const absl::Status status = registry_->Unload("a");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(status).reason, "MODEL_IN_USE");
}

TEST_F(ModelRegistryTest, AFailedLoadIsRememberedAndTriedAgain) {
  source_->FailWith(absl::DataLossError("shard 2 is cut off"));
  EXPECT_EQ(registry_->Load("a", context_).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(StateOf("a"), ModelState::kFailed);
  EXPECT_EQ(registry_->Get("a")->error.message(), "shard 2 is cut off");
  EXPECT_EQ(registry_->stats().reserved_bytes, 0);

  source_->FailWith(absl::OkStatus());
  EXPECT_TRUE(registry_->Load("a", context_).ok());
  EXPECT_EQ(StateOf("a"), ModelState::kReady);
  EXPECT_TRUE(registry_->Get("a")->error.ok());
}

TEST_F(ModelRegistryTest, ACheckpointIsOpenedAgainWhenItsFilesChange) {
  const auto first = *registry_->OpenCheckpoint("a");
  EXPECT_EQ(*registry_->OpenCheckpoint("a"), first);
  source_->ChangeFiles();
  EXPECT_NE(*registry_->OpenCheckpoint("a"), first);
  EXPECT_EQ(registry_->stats().checkpoints_opened, 2);
}

TEST_F(ModelRegistryTest, AModelWhoseFilesChangedIsLoadedAgain) {
  ModelHandle old = *registry_->Acquire("a", 1, context_);
  source_->ChangeFiles();

  const ModelHandle fresh = *registry_->Acquire("a", 1, context_);

  EXPECT_NE(&old->checkpoint(), &fresh->checkpoint());
  EXPECT_EQ(source_->alive(), 2);
  EXPECT_EQ(registry_->stats().reserved_bytes, 80);
  old = ModelHandle();
  EXPECT_EQ(source_->alive(), 1);
  EXPECT_EQ(registry_->stats().reserved_bytes, 40);
  EXPECT_EQ(registry_->stats().evictions_changed, 1);
}

TEST_F(ModelRegistryTest, CallersShareOneLoadAndSeeItsProgress) {
  source_->Hold();
  std::atomic<int> reports{0};
  RunContext first;
  first.set_progress_function([&](const Progress& progress) {
    EXPECT_EQ(progress.total, 2);
    ++reports;
  });
  RunContext second;
  absl::Status results[2];
  std::thread one = AcquireLater("a", first, results[0]);
  source_->AwaitLoads(1);
  EXPECT_EQ(StateOf("a"), ModelState::kLoading);
  EXPECT_EQ(GetErrorDetails(registry_->Unload("a")).reason, "MODEL_IN_USE");
  std::thread two = AcquireLater("a", second, results[1]);
  while (registry_->stats().loads_joined == 0 || reports == 0) {
    std::this_thread::yield();
  }

  source_->Release();
  one.join();
  two.join();

  EXPECT_TRUE(results[0].ok()) << results[0];
  EXPECT_TRUE(results[1].ok()) << results[1];
  EXPECT_EQ(source_->loads(), 1);
}

TEST_F(ModelRegistryTest, OneCallersCancelDoesNotStopTheOthersLoad) {
  source_->Hold();
  RunContext first;
  RunContext second;
  absl::Status results[2];
  std::thread one = AcquireLater("a", first, results[0]);
  source_->AwaitLoads(1);
  std::thread two = AcquireLater("a", second, results[1]);
  while (registry_->stats().loads_joined == 0) {
    std::this_thread::yield();
  }

  first.token().Cancel(absl::CancelledError("changed my mind"));
  one.join();
  EXPECT_EQ(StateOf("a"), ModelState::kLoading);
  source_->Release();
  two.join();

  EXPECT_EQ(results[0].message(), "changed my mind");
  EXPECT_TRUE(results[1].ok()) << results[1];
}

TEST_F(ModelRegistryTest, TheLastCallersCancelStopsTheLoad) {
  source_->Hold();
  RunContext first;
  absl::Status result;
  std::thread one = AcquireLater("a", first, result);
  source_->AwaitLoads(1);
  first.token().Cancel(absl::CancelledError("changed my mind"));
  one.join();
  EXPECT_EQ(result.code(), absl::StatusCode::kCancelled);

  // Waits for the stopped load to end, then loads anew.
  std::thread two = AcquireLater("a", context_, result);
  source_->AwaitLoads(2);
  source_->Release();
  two.join();

  EXPECT_TRUE(result.ok()) << result;
  EXPECT_EQ(registry_->stats().loads_cancelled, 1);
  EXPECT_EQ(registry_->stats().load_failures, 0);
}

TEST_F(ModelRegistryTest, ALoadingModelCountsAgainstTheBudget) {
  source_->Hold();
  absl::Status result;
  std::thread one = AcquireLater("a", context_, result);
  source_->AwaitLoads(1);
  EXPECT_EQ(GetErrorDetails(registry_->Load("c", RunContext())).reason,
            "MODEL_TOO_LARGE");
  source_->Release();
  one.join();
}

TEST_F(ModelRegistryTest, AHandleMayOutliveTheRegistry) {
  const ModelHandle handle = *registry_->Acquire("a", 1, context_);
  registry_.reset();
  EXPECT_EQ(handle->device(), "fake");
}

TEST_F(ModelRegistryTest, ManyCallersAllGetTheirTurnWithinTheBudget) {
  StartWith(/*minimum_residence=*/absl::ZeroDuration());
  std::vector<std::thread> threads;
  std::atomic<int> served{0};
  for (const char* name : {"a", "b", "c", "a", "b", "c"}) {
    threads.emplace_back([this, name, &served] {
      for (int i = 0; i < 30; ++i) {
        const auto handle = registry_->Acquire(name, 1, RunContext());
        ASSERT_TRUE(handle.ok()) << handle.status();
        EXPECT_EQ((*handle)->device(), "fake");
        EXPECT_TRUE(registry_->List().ok());
        (void)registry_->Unload(name);
        ++served;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(served, 180);
  EXPECT_LE(registry_->stats().reserved_bytes, 100);
}

// --- Workspace ---------------------------------------------------------------

TEST_F(ModelRegistryTest, WorkspaceIsReservedForAsLongAsItsHandle) {
  ModelHandle small = *registry_->Acquire("a", 5, context_);
  ModelHandle large = *registry_->Acquire("a", 20, context_);
  ModelHandle copy = large;
  EXPECT_EQ(registry_->stats().workspace_bytes, 25);
  EXPECT_EQ(registry_->stats().reserved_bytes, 64);
  EXPECT_EQ(registry_->Get("a")->reserved_bytes, 64);

  large = ModelHandle();
  EXPECT_EQ(registry_->stats().workspace_bytes, 25);
  copy = ModelHandle();
  EXPECT_EQ(registry_->stats().workspace_bytes, 5);
  small = ModelHandle();

  EXPECT_EQ(registry_->stats().workspace_bytes, 0);
  EXPECT_EQ(registry_->stats().reserved_bytes, 39);
}

TEST_F(ModelRegistryTest, WorkspaceWithoutAModelComesFromTheBudgetToo) {
  WorkspaceReservation held = *registry_->ReserveWorkspace(50, context_);
  EXPECT_EQ(registry_->stats().workspace_bytes, 50);

  const absl::Status refused = registry_->Load("c", context_);
  EXPECT_EQ(GetErrorDetails(refused).reason, "MODEL_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(refused).metadata.at("available_bytes"), "50");

  held = WorkspaceReservation();
  EXPECT_EQ(registry_->stats().reserved_bytes, 0);
  EXPECT_TRUE(registry_->Load("c", context_).ok());
}

TEST_F(ModelRegistryTest, WorkspaceEvictsIdleModels) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  clock_.Advance(absl::Seconds(10));

  const auto held = registry_->ReserveWorkspace(90, context_);

  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(StateOf("a"), ModelState::kUnloaded);
  EXPECT_EQ(source_->alive(), 0);
  EXPECT_EQ(registry_->stats().evictions_memory, 1);
}

TEST_F(ModelRegistryTest, WorkspaceOfAModelEvictsOthersButNotItself) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  ASSERT_TRUE(registry_->Load("b", context_).ok());
  clock_.Advance(absl::Seconds(10));

  const auto held = registry_->Acquire("a", 30, context_);

  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(StateOf("a"), ModelState::kReady);
  EXPECT_EQ(StateOf("b"), ModelState::kUnloaded);
  EXPECT_EQ(source_->loads(), 2);
}

TEST_F(ModelRegistryTest, WhatCanNeverFitIsRefusedAtOnce) {
  const ModelHandle busy = *registry_->Acquire("b", 1, context_);

  const absl::Status model = registry_->Acquire("a", 62, context_).status();
  const absl::Status alone = registry_->ReserveWorkspace(101, context_).status();

  EXPECT_EQ(model.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(model).reason, "MODEL_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(model).metadata.at("needed_bytes"), "101");
  EXPECT_EQ(GetErrorDetails(model).metadata.at("workspace_bytes"), "62");
  EXPECT_EQ(GetErrorDetails(model).metadata.at("budget_bytes"), "100");
  EXPECT_EQ(alone.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetails(alone).reason, "WORKSPACE_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(alone).metadata.at("needed_bytes"), "101");
  EXPECT_EQ(GetErrorDetails(alone).metadata.at("available_bytes"), "50");
  EXPECT_EQ(GetErrorDetails(alone).metadata.at("budget_bytes"), "100");
  EXPECT_EQ(registry_->CheckBudget("a", 62), model);
  EXPECT_EQ(registry_->CheckBudget("", 101), alone);
  EXPECT_TRUE(registry_->CheckBudget("a", 61).ok());
  EXPECT_TRUE(registry_->CheckBudget("", 100).ok());
  EXPECT_EQ(source_->loads(), 1);
}

TEST_F(ModelRegistryTest, AModelWaitsForTheMemoryOfRunningWork) {
  WorkspaceReservation running = *registry_->ReserveWorkspace(70, context_);
  absl::Status result = absl::UnknownError("still waiting");
  std::thread later = AcquireLater("a", context_, result);
  AwaitProgress("waiting for memory");
  EXPECT_EQ(source_->loads(), 0);
  EXPECT_EQ(registry_->stats().reserved_bytes, 70);

  running = WorkspaceReservation();
  later.join();

  EXPECT_TRUE(result.ok()) << result;
}

TEST_F(ModelRegistryTest, WaitingForMemoryEndsWithItsCaller) {
  const ModelHandle running = *registry_->Acquire("c", 1, RunContext());
  absl::Status result;
  std::thread later = AcquireLater("a", context_, result);
  AwaitProgress("waiting for memory");

  context_.token().Cancel(absl::CancelledError("changed my mind"));
  later.join();

  EXPECT_EQ(result.message(), "changed my mind");
  EXPECT_EQ(registry_->stats().reserved_bytes, 70);
  // Its place in the queue is gone with it.
  EXPECT_TRUE(registry_->ReserveWorkspace(30, RunContext()).ok());
}

TEST_F(ModelRegistryTest, SmallClaimsDoNotOvertakeALargeOneThatWaits) {
  WorkspaceReservation running =
      *registry_->ReserveWorkspace(70, RunContext());
  absl::Status result;
  std::thread large = AcquireLater("a", context_, result);
  AwaitProgress("waiting for memory");
  RunContext impatient;
  impatient.set_deadline(absl::Now());

  EXPECT_EQ(registry_->ReserveWorkspace(1, impatient).status().code(),
            absl::StatusCode::kDeadlineExceeded);

  running = WorkspaceReservation();
  large.join();
  EXPECT_TRUE(result.ok()) << result;
}

TEST_F(ModelRegistryTest, WorkspaceOfAFailedLoadIsGivenBack) {
  source_->FailWith(absl::DataLossError("shard 2 is cut off"));
  EXPECT_EQ(registry_->Acquire("a", 20, context_).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(registry_->stats().reserved_bytes, 0);
  EXPECT_EQ(registry_->stats().workspace_bytes, 0);
}

TEST_F(ModelRegistryTest, AHostBudgetOfItsOwnLeavesTheDeviceAlone) {
  ModelRegistry::Options options;
  options.device = "cuda:0";
  options.memory_budget_bytes = 100;
  options.host_budget_bytes = 1000;
  ModelRegistry registry(options,
                         std::make_unique<FakeModelSource>(
                             std::map<std::string, std::int64_t>{{"a", 40}}),
                         clock_);
  const ModelHandle model = *registry.Acquire("a", 60, context_);

  const auto held = registry.ReserveWorkspace(999, context_);

  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(registry.stats().reserved_bytes, 99);
  EXPECT_EQ(registry.stats().workspace_bytes, 60);
  EXPECT_EQ(registry.stats().host_workspace_bytes, 999);
  EXPECT_EQ(GetErrorDetails(registry.ReserveWorkspace(1001, context_).status())
                .metadata.at("budget_bytes"),
            "1000");
}

TEST_F(ModelRegistryTest, ManyUsersWithWorkspaceAllGetTheirTurn) {
  StartWith(/*minimum_residence=*/absl::ZeroDuration());
  std::vector<std::thread> threads;
  std::atomic<int> served{0};
  const std::map<std::string, std::int64_t> uses = {
      {"a", 60}, {"b", 30}, {"c", 25}, {"", 90}};
  for (const auto& use : uses) {
    threads.emplace_back([this, use, &served] {
      for (int i = 0; i < 20; ++i) {
        if (use.first.empty()) {
          EXPECT_TRUE(
              registry_->ReserveWorkspace(use.second, RunContext()).ok());
        } else {
          EXPECT_TRUE(
              registry_->Acquire(use.first, use.second, RunContext()).ok());
        }
        ++served;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(served, 80);
  EXPECT_LE(registry_->stats().reserved_bytes, 100);
  EXPECT_EQ(registry_->stats().workspace_bytes, 0);
}

}  // namespace
}  // namespace moescope
