#include "moescope/registry/model_registry.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "tests/registry/model_registry_fixture.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

}  // namespace
}  // namespace moescope
