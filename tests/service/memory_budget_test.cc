#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "moescope/base/memory_limit.h"
#include "moescope/model/compute_info.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

TEST(MemoryBudgetTest, IsFourFifthsOfTheDeviceUnlessToldOtherwise) {
  EXPECT_EQ(*ChooseMemoryBudget(ServiceOptions(), "cuda:0", 1000), 800);
}

TEST(MemoryBudgetTest, AShareIsOfTheDevice) {
  ServiceOptions options;
  options.memory_budget_share = 0.5;
  EXPECT_EQ(*ChooseMemoryBudget(options, "cuda:0", 1000), 500);
}

TEST(MemoryBudgetTest, BytesNeedNobodyWhoKnowsTheDevice) {
  ServiceOptions options;
  options.memory_budget_bytes = 70;
  EXPECT_EQ(*ChooseMemoryBudget(options, "cuda:0", std::nullopt), 70);
}

TEST(MemoryBudgetTest, AShareOfAnUnknownSizeNamesTheFlag) {
  const absl::Status status =
      ChooseMemoryBudget(ServiceOptions(), "cuda:0", std::nullopt).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(status).fields[0].field, "memory_budget");
  EXPECT_NE(std::string(status.message()).find("--memory_budget"),
            std::string::npos);
}

TEST(TotalMemoryTest, OfTheHostIsWhatThisProcessMayUse) {
  EXPECT_EQ(model::TotalMemoryBytes("cpu"), MemoryLimitBytes());
}

TEST(TotalMemoryTest, OfAGpuThatIsNotThereIsUnknown) {
  EXPECT_EQ(model::TotalMemoryBytes("cuda:99"), std::nullopt);
}

}  // namespace
}  // namespace moescope
