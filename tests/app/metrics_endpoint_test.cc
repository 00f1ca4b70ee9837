#include "moescope/app/metrics_endpoint.h"

#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moescope {
namespace {

TEST(MetricsEndpointTest, SecondOneOnTheSamePortIsRefusedWithTheAddress) {
  const auto first =
      MetricsEndpoint::Start({"127.0.0.1", 0}, [] { return std::string(); });
  ASSERT_TRUE(first.ok());
  const auto address = ParseListenAddress((*first)->address());
  ASSERT_TRUE(address.ok());

  const auto second =
      MetricsEndpoint::Start(*address, [] { return std::string(); });

  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              testing::HasSubstr((*first)->address()));
}

}  // namespace
}  // namespace moescope
