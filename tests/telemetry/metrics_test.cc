#include "moescope/telemetry/metrics.h"

#include <algorithm>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "moescope/base/file.h"

namespace moescope {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Every word of `text` that begins with the prefix of our metrics.
std::set<std::string> MetricNamesIn(const std::string& text) {
  std::set<std::string> names;
  std::size_t at = 0;
  while ((at = text.find("moescope_", at)) != std::string::npos) {
    const std::size_t end =
        text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at);
    names.insert(text.substr(at, end - at));
    at = end == std::string::npos ? text.size() : end;
  }
  return names;
}

bool IsInTable(absl::string_view name) {
  const auto table = MetricTable();
  return std::any_of(table.begin(), table.end(), [&](const auto& metric) {
    return metric.name == name ||
           (metric.type == MetricType::kHistogram &&
            metric.name == absl::StripSuffix(name, "_bucket"));
  });
}

TEST(MetricTableTest, HasEveryMetricThatTheDashboardQueries) {
  const auto dashboard = ReadFile(
      MOESCOPE_SOURCE_DIR "/deploy/grafana/moescope-overview.json", 10'000'000);
  ASSERT_TRUE(dashboard.ok()) << dashboard.status();

  const std::set<std::string> names = MetricNamesIn(*dashboard);

  EXPECT_GE(names.size(), 20U);
  for (const std::string& name : names) {
    EXPECT_TRUE(IsInTable(name)) << name;
  }
}

TEST(MetricTableTest, NamesSayPrefixUnitAndCounter) {
  std::set<std::string> seen;
  for (const MetricDefinition& metric : MetricTable()) {
    EXPECT_TRUE(absl::StartsWith(metric.name, "moescope_")) << metric.name;
    EXPECT_EQ(absl::EndsWith(metric.name, "_total"),
              metric.type == MetricType::kCounter)
        << metric.name;
    EXPECT_TRUE(absl::StrContains(metric.name, metric.unit)) << metric.name;
    EXPECT_FALSE(metric.help.empty()) << metric.name;
    EXPECT_TRUE(seen.insert(std::string(metric.name)).second) << metric.name;
  }
}

TEST(MetricsTest, ShowsCallsByMethodAndCode) {
  Metrics metrics;

  metrics.RpcStarted("JobService/GetJob");
  metrics.RpcStarted("JobService/GetJob");
  metrics.RpcFinished("JobService/GetJob", "NOT_FOUND", absl::Seconds(2));
  const std::string text = metrics.Serialize();

  EXPECT_THAT(text, HasSubstr("moescope_rpc_started_total{method=\"JobService/"
                              "GetJob\"} 2"));
  EXPECT_THAT(text, HasSubstr("moescope_rpc_handled_total{code=\"NOT_FOUND\","
                              "method=\"JobService/GetJob\"} 1"));
  EXPECT_THAT(text,
              HasSubstr("moescope_rpc_in_flight{method=\"JobService/GetJob\"}"
                        " 1"));
  EXPECT_THAT(text, HasSubstr("moescope_rpc_seconds_sum{method=\"JobService/"
                              "GetJob\"} 2"));
}

TEST(MetricsTest, AJobThatLeftTheQueueCountsAsZero) {
  Metrics metrics;
  metrics.SetQueue({{"routing_trace", "batch", 3}}, {}, absl::Seconds(7),
                   absl::Seconds(90));

  metrics.SetQueue({}, {{"routing_trace", 1}}, absl::ZeroDuration(),
                   absl::ZeroDuration());
  const std::string text = metrics.Serialize();

  EXPECT_THAT(text, HasSubstr("moescope_jobs_queued{analysis=\"routing_trace\","
                              "priority=\"batch\"} 0"));
  EXPECT_THAT(
      text, HasSubstr("moescope_jobs_running{analysis=\"routing_trace\"} 1"));
  EXPECT_THAT(text, HasSubstr("moescope_jobs_oldest_queued_seconds 0"));
}

TEST(MetricsTest, ReadsTheResidentMemoryOfTheProcess) {
  Metrics metrics;

  const std::string text = metrics.Serialize();

  EXPECT_THAT(text, HasSubstr("\nmoescope_process_resident_memory_bytes "));
  EXPECT_THAT(text, Not(HasSubstr("moescope_process_resident_memory_bytes 0")));
}

TEST(MetricsTest, FilesUnboundedLabelsUnderOther) {
  Metrics metrics;
  for (int i = 0; i < 300; ++i) {
    metrics.JobRejected(absl::StrCat("R", i));
  }

  const std::string text = metrics.Serialize();

  EXPECT_THAT(text, HasSubstr("{reason=\"R100\"} 1"));
  EXPECT_THAT(text, Not(HasSubstr("{reason=\"R250\"}")));
  EXPECT_THAT(text, HasSubstr("{reason=\"other\"} 101"));
}

TEST(MetricsTest, CountsFromManyThreads) {
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&metrics] {
      for (int n = 0; n < 250; ++n) {
        metrics.AddTokens(1);
      }
      metrics.Serialize();
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }

  EXPECT_THAT(metrics.Serialize(), HasSubstr("moescope_tokens_total 1000"));
}

}  // namespace
}  // namespace moescope
