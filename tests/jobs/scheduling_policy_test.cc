#include "moescope/jobs/scheduling_policy.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moescope {
namespace {

constexpr Priority kInteractive = Priority::kInteractive;
constexpr Priority kBatch = Priority::kBatch;

absl::Time At(int seconds) { return absl::FromUnixSeconds(10'000 + seconds); }

struct Case {
  std::string name;
  SchedulingSnapshot snapshot;
  std::string expected;
};

class SchedulingPolicyTest : public ::testing::TestWithParam<Case> {};

TEST_P(SchedulingPolicyTest, Chooses) {
  const auto next = ChooseNext(GetParam().snapshot, SchedulingOptions());

  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(GetParam().snapshot.queued[*next].id, GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Table, SchedulingPolicyTest,
    ::testing::Values(
        Case{"OldestFirst",
             {At(9),
              {{"b", "ann", kBatch, At(2), ""}, {"a", "ann", kBatch, At(1), ""}},
              {},
              {}},
             "a"},
        Case{"InteractiveBeforeOlderBatch",
             {At(9),
              {{"a", "ann", kBatch, At(1), ""},
               {"b", "bob", kInteractive, At(5), ""}},
              {},
              {}},
             "b"},
        Case{"NeglectedBatchCountsAsInteractive",
             {At(400),
              {{"a", "ann", kBatch, At(1), ""},
               {"b", "bob", kInteractive, At(300), ""}},
              {},
              {}},
             "a"},
        Case{"FloodOfOldBatchDoesNotBarInteractive",
             {At(400),
              {{"a", "ann", kBatch, At(1), ""},
               {"b", "bob", kInteractive, At(390), ""}},
              {{"ann", {0, At(350), At(350)}}},
              {}},
             "b"},
        Case{"ClientWithFewerRunningFirst",
             {At(9),
              {{"a", "ann", kBatch, At(1), ""}, {"b", "bob", kBatch, At(2), ""}},
              {{"ann", {2, At(0), At(0)}}},
              {}},
             "b"},
        Case{"ClientServedLongestAgoFirst",
             {At(9),
              {{"a", "ann", kBatch, At(1), ""}, {"b", "bob", kBatch, At(2), ""}},
              {{"ann", {0, At(8), At(8)}}, {"bob", {0, At(3), At(3)}}},
              {}},
             "b"},
        Case{"LoadedModelFirst",
             {At(9),
              {{"a", "ann", kBatch, At(1), "cold"},
               {"b", "ann", kBatch, At(2), "warm"}},
              {},
              {"warm"}},
             "b"},
        Case{"AffinityRunsOutOfPatience",
             {At(40),
              {{"a", "ann", kBatch, At(1), "cold"},
               {"b", "ann", kBatch, At(35), "warm"}},
              {},
              {"warm"}},
             "a"}),
    [](const auto& test) { return test.param.name; });

std::vector<std::string> OrderOf(const SchedulingSnapshot& snapshot) {
  std::vector<std::string> ids;
  for (const std::size_t i : StartOrder(snapshot, SchedulingOptions())) {
    ids.push_back(snapshot.queued[i].id);
  }
  return ids;
}

TEST_P(SchedulingPolicyTest, StartOrderBeginsWithTheChosen) {
  EXPECT_EQ(OrderOf(GetParam().snapshot).front(), GetParam().expected);
}

TEST(StartOrderTest, ClientsTakeTurns) {
  EXPECT_THAT(OrderOf({At(9),
                       {{"a1", "ann", kBatch, At(1), ""},
                        {"a2", "ann", kBatch, At(2), ""},
                        {"a3", "ann", kBatch, At(3), ""},
                        {"b1", "bob", kBatch, At(4), ""},
                        {"c1", "cid", kInteractive, At(5), ""}},
                       {},
                       {}}),
              ::testing::ElementsAre("c1", "a1", "b1", "a2", "a3"));
}

TEST(StartOrderTest, OfAnEmptyQueueIsEmpty) {
  EXPECT_TRUE(OrderOf(SchedulingSnapshot()).empty());
}

TEST(SchedulingPolicyEdgeTest, EmptyQueueHasNothingToStart) {
  EXPECT_EQ(ChooseNext(SchedulingSnapshot(), SchedulingOptions()),
            std::nullopt);
}

}  // namespace
}  // namespace moescope
