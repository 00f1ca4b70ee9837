#include "moescope/registry/eviction_policy.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moescope {
namespace {

using ::testing::ElementsAreArray;

const absl::Time kNow = absl::FromUnixSeconds(1000);

/// Loaded `age` and used `idle` seconds ago.
ResidentModel Resident(const std::string& name, std::int64_t bytes,
                       int idle, int pins = 0, int age = 900) {
  return {name, bytes, pins, kNow - absl::Seconds(age),
          kNow - absl::Seconds(idle)};
}

struct Case {
  std::string name;
  std::vector<ResidentModel> residents;
  std::int64_t needed;
  bool fits;
  std::int64_t available;
  std::vector<std::string> evict;
  std::vector<std::string> would_have_to_go;
};

class PlanEvictionTest : public ::testing::TestWithParam<Case> {};

// Budget 100, minimum residence 60 s.
TEST_P(PlanEvictionTest, Decides) {
  const EvictionPlan plan = PlanEviction(
      GetParam().residents, GetParam().needed, 100, absl::Seconds(60), kNow);
  EXPECT_EQ(plan.fits, GetParam().fits);
  EXPECT_EQ(plan.available_bytes, GetParam().available);
  EXPECT_THAT(plan.evict, ElementsAreArray(GetParam().evict));
  EXPECT_THAT(plan.would_have_to_go,
              ElementsAreArray(GetParam().would_have_to_go));
}

INSTANTIATE_TEST_SUITE_P(
    Table, PlanEvictionTest,
    ::testing::Values(
        Case{"AnEmptyDeviceTakesItsWholeBudget", {}, 100, true, 100, {}, {}},
        Case{"MoreThanTheBudgetNeverFits", {}, 101, false, 100, {}, {}},
        Case{"NothingGoesWhileThereIsRoom",
             {Resident("a", 60, 10)}, 40, true, 40, {}, {}},
        Case{"TheLeastRecentlyUsedGoesFirst",
             {Resident("a", 40, 10), Resident("b", 40, 20)},
             50, true, 20, {"b"}, {}},
        Case{"AsManyGoAsAreNeeded",
             {Resident("a", 30, 10), Resident("b", 30, 30),
              Resident("c", 30, 20)},
             50, true, 10, {"b", "c"}, {}},
        Case{"TiesGoByName",
             {Resident("b", 50, 10), Resident("a", 50, 10)},
             50, true, 0, {"a"}, {}},
        Case{"ASmallOneIsSparedWhenALargeOneSuffices",
             {Resident("small", 10, 30), Resident("large", 80, 20)},
             60, true, 10, {"large"}, {}},
        Case{"APinnedOneStays",
             {Resident("a", 50, 30, 1), Resident("b", 50, 10)},
             50, true, 0, {"b"}, {}},
        Case{"AYoungOneStays",
             {Resident("a", 50, 30, 0, 59), Resident("b", 50, 10, 0, 60)},
             50, true, 0, {"b"}, {}},
        Case{"WhatStandsInTheWayIsNamed",
             {Resident("pinned", 50, 30, 2), Resident("young", 40, 20, 0, 1)},
             30, false, 10, {}, {"pinned"}},
        Case{"AllThatWouldHaveToGoIsNamed",
             {Resident("idle", 20, 40), Resident("pinned", 80, 30, 1)},
             90, false, 0, {}, {"idle", "pinned"}},
        Case{"AnOverfullDeviceIsSaidSo",
             {Resident("a", 80, 10), Resident("b", 70, 20)},
             20, true, -50, {"b"}, {}}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace moescope
