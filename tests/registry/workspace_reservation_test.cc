// What ModelRegistry reserves for work: beside a model and without one.
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"

#include "moescope/base/error.h"
#include "tests/registry/model_registry_fixture.h"

namespace moescope {
namespace {

using ::testing::HasSubstr;
using WorkspaceReservationTest = ModelRegistryTest;

TEST_F(WorkspaceReservationTest, WorkspaceIsReservedForAsLongAsItsHandle) {
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

TEST_F(WorkspaceReservationTest, WorkspaceWithoutAModelComesFromTheBudgetToo) {
  WorkspaceReservation held = *registry_->ReserveWorkspace(50, context_);
  EXPECT_EQ(registry_->stats().workspace_bytes, 50);

  const absl::Status refused = registry_->Load("c", context_);
  EXPECT_EQ(GetErrorDetails(refused).reason, "MODEL_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(refused).metadata.at("available_bytes"), "50");

  held = WorkspaceReservation();
  EXPECT_EQ(registry_->stats().reserved_bytes, 0);
  EXPECT_TRUE(registry_->Load("c", context_).ok());
}

TEST_F(WorkspaceReservationTest, WorkspaceEvictsIdleModels) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  clock_.Advance(absl::Seconds(10));

  const auto held = registry_->ReserveWorkspace(90, context_);

  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(StateOf("a"), ModelState::kUnloaded);
  EXPECT_EQ(source_->alive(), 0);
  EXPECT_EQ(registry_->stats().evictions_memory, 1);
}

TEST_F(WorkspaceReservationTest, WorkspaceOfAModelEvictsOthersButNotItself) {
  ASSERT_TRUE(registry_->Load("a", context_).ok());
  ASSERT_TRUE(registry_->Load("b", context_).ok());
  clock_.Advance(absl::Seconds(10));

  const auto held = registry_->Acquire("a", 30, context_);

  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(StateOf("a"), ModelState::kReady);
  EXPECT_EQ(StateOf("b"), ModelState::kUnloaded);
  EXPECT_EQ(source_->loads(), 2);
}

TEST_F(WorkspaceReservationTest, WhatCanNeverFitIsRefusedAtOnce) {
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

TEST_F(WorkspaceReservationTest, AModelWaitsForTheMemoryOfRunningWork) {
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

TEST_F(WorkspaceReservationTest, WaitingForMemoryEndsWithItsCaller) {
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

TEST_F(WorkspaceReservationTest, SmallClaimsDoNotOvertakeALargeOneThatWaits) {
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

TEST_F(WorkspaceReservationTest, WorkspaceOfAFailedLoadIsGivenBack) {
  source_->FailWith(absl::DataLossError("shard 2 is cut off"));
  EXPECT_EQ(registry_->Acquire("a", 20, context_).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(registry_->stats().reserved_bytes, 0);
  EXPECT_EQ(registry_->stats().workspace_bytes, 0);
}

// 100 bytes on a device, 1000 on the host.
ModelRegistry::Options TwoBudgets() {
  ModelRegistry::Options options;
  options.device = "cuda:0";
  options.memory_budget_bytes = 100;
  options.host_budget_bytes = 1000;
  return options;
}

// The model "a" of 40 bytes.
std::unique_ptr<FakeModelSource> ModelOf40() {
  return std::make_unique<FakeModelSource>(
      std::map<std::string, std::int64_t>{{"a", 40}});
}

TEST_F(WorkspaceReservationTest, AHostBudgetOfItsOwnLeavesTheDeviceAlone) {
  ModelRegistry registry(TwoBudgets(), ModelOf40(), clock_);
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

TEST_F(WorkspaceReservationTest, WorkOnTheDeviceTakesFromBothBudgets) {
  ModelRegistry registry(TwoBudgets(), ModelOf40(), clock_);
  ASSERT_TRUE(registry.Load("a", context_).ok());
  clock_.Advance(absl::Seconds(10));
  RunContext impatient;
  impatient.set_deadline(absl::Now() + absl::Milliseconds(20));

  WorkspaceReservation held = *registry.ReserveWorkspace(300, context_, 50);
  EXPECT_EQ(registry.Get("a")->state, ModelState::kReady);
  EXPECT_EQ(registry.stats().workspace_bytes, 50);
  EXPECT_EQ(registry.stats().host_workspace_bytes, 300);
  // Makes room on the device, as a model would.
  WorkspaceReservation more = *registry.ReserveWorkspace(300, context_, 50);
  EXPECT_EQ(registry.Get("a")->state, ModelState::kUnloaded);
  EXPECT_EQ(
      registry.ReserveWorkspace(1, impatient, 1).status().code(),
      absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(registry.ReserveWorkspace(400, context_).ok());
  held = WorkspaceReservation();

  EXPECT_EQ(registry.stats().workspace_bytes, 50);
  EXPECT_EQ(registry.stats().host_workspace_bytes, 300);
  EXPECT_TRUE(registry.ReserveWorkspace(1, context_, 1).ok());
}

TEST_F(WorkspaceReservationTest, WhatExceedsEitherBudgetIsRefusedByItsName) {
  ModelRegistry registry(TwoBudgets(), ModelOf40(), clock_);

  const absl::Status on_device =
      registry.ReserveWorkspace(999, context_, 101).status();
  const absl::Status on_host =
      registry.ReserveWorkspace(1001, context_, 99).status();

  EXPECT_EQ(GetErrorDetails(on_device).reason, "WORKSPACE_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(on_device).metadata.at("budget_bytes"), "100");
  EXPECT_THAT(std::string(on_device.message()), HasSubstr("cuda:0"));
  EXPECT_EQ(GetErrorDetails(on_host).metadata.at("budget_bytes"), "1000");
  EXPECT_EQ(registry.CheckBudget("", 999, 101), on_device);
  EXPECT_TRUE(registry.CheckBudget("", 1000, 100).ok());
  EXPECT_EQ(registry.stats().host_workspace_bytes, 0);
}

TEST_F(WorkspaceReservationTest, ManyUsersOfBothBudgetsAllGetTheirTurn) {
  ModelRegistry::Options options = TwoBudgets();
  options.host_budget_bytes = 100;
  options.minimum_residence = absl::ZeroDuration();
  ModelRegistry registry(options, ModelOf40(), clock_);
  std::vector<std::thread> threads;
  std::atomic<int> served{0};
  const std::vector<std::pair<std::int64_t, std::int64_t>> uses = {
      {90, 0}, {60, 60}, {10, 90}, {90, 10}};
  for (const auto& [host, device] : uses) {
    threads.emplace_back([&, host = host, device = device] {
      for (int i = 0; i < 20; ++i) {
        EXPECT_TRUE(registry.ReserveWorkspace(host, RunContext(), device).ok());
        EXPECT_TRUE(registry.Acquire("a", device, RunContext()).ok() ||
                    device > 60);
        ++served;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(served, 80);
  EXPECT_EQ(registry.stats().workspace_bytes, 0);
  EXPECT_EQ(registry.stats().host_workspace_bytes, 0);
}

TEST_F(WorkspaceReservationTest, ManyUsersWithWorkspaceAllGetTheirTurn) {
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
