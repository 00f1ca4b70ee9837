#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "moescope/v1/admin.pb.h"
#include "moescope/v1/analysis.pb.h"
#include "moescope/v1/job.pb.h"
#include "moescope/v1/model.pb.h"
#include "moescope/v1/result.pb.h"

#include "moescope/rpc/rpc_server.h"
#include "moescope/service/service.h"
#include "moescope/service/views.h"

namespace moescope::internal {

// What the service answers, as messages, and requests' words as its own.

/// `status` must not be OK.
v1::JobError ToJobError(const absl::Status& status);
v1::Model ToMessage(const ModelView& view);
v1::Job ToMessage(const JobRecord& job);
/// Adds place and ETA to the message of `record` while that is QUEUED.
void SetQueuePlace(const QueuePlaces& places, const JobRecord& record,
                   v1::Job& job);
v1::JobCost ToMessage(const CostView& cost);
v1::Result ToMessage(const ResultView& view);
v1::GetServerInfoResponse ToMessage(const ServerView& view,
                                    const RpcServerOptions& options,
                                    bool draining, absl::Time now);
v1::GetCacheStatsResponse ToMessage(const CacheView& view);

/// Errors of these: INVALID_ARGUMENT, field "cache_policy", "load_policy",
/// "priority".
absl::StatusOr<CachePolicy> FromMessage(v1::CachePolicy policy);
absl::StatusOr<LoadPolicy> FromMessage(v1::LoadPolicy policy);
/// `unspecified` is what PRIORITY_UNSPECIFIED means.
absl::StatusOr<Priority> FromMessage(v1::Priority priority,
                                     Priority unspecified);

}  // namespace moescope::internal
