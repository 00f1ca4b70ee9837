#pragma once

#include <functional>
#include <memory>
#include <string>

#include <gtest/gtest.h>
#include "absl/time/time.h"

#include "moescope/jobs/job_store.h"

namespace moescope {

/// A kind of store under test. `open` makes an empty one with these limits.
struct JobStoreKind {
  std::string name;
  std::function<std::unique_ptr<JobStore>(const JobStoreLimits& limits)> open;
};

/// What every kind of JobStore must hold; instantiated once for each kind.
class JobStoreConformanceTest : public ::testing::TestWithParam<JobStoreKind> {
 protected:
  void SetUp() override { Open(JobStoreLimits()); }
  void Open(const JobStoreLimits& limits) {
    store_ = GetParam().open(limits);
    ASSERT_NE(store_, nullptr);
  }

  static SubmitRequest Request(const std::string& key,
                               const std::string& client = "ann") {
    SubmitRequest request;
    request.client = client;
    request.analysis = "routing_trace";
    request.analysis_version = 1;
    request.spec = std::string("spec\0bytes", 10);
    request.key = key;
    request.lane = "cpu";
    request.numerics_class = "cpu-fp32";
    request.estimated_seconds = 10;
    return request;
  }
  JobRecord Submit(const SubmitRequest& request) {
    auto reply = store_->Submit(request, now_);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? reply->job : JobRecord();
  }
  std::optional<ExecutionRecord> Claim(const std::string& owner = "worker") {
    ClaimRequest request;
    request.owner = owner;
    request.lanes = {"cpu"};
    request.lease_until = now_ + absl::Seconds(30);
    auto claimed = store_->Claim(request, now_);
    EXPECT_TRUE(claimed.ok()) << claimed.status();
    return claimed.ok() ? *claimed : std::nullopt;
  }
  JobRecord Job(const std::string& id) {
    auto job = store_->GetJob(id);
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? *job : JobRecord();
  }
  ResultRow Result(const std::string& key) const {
    ResultRow result;
    result.key = key;
    result.alias_keys = {key + "-content"};
    result.analysis = "routing_trace";
    result.bytes = 100;
    result.records = 3;
    result.digest = "d1";
    result.provenance = "p";
    result.created = now_;
    result.last_used = now_;
    return result;
  }

  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
  std::unique_ptr<JobStore> store_;
};

}  // namespace moescope
