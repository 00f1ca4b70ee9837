#pragma once

#include <cstddef>

namespace moescope::internal {

/// Position of each metric in MetricTable().
enum MetricIndex : std::size_t {
  kBuildInfo,
  kReady,
  kDraining,
  kProcessResidentMemory,
  kProcessAllocatedMemory,
  kRpcStarted,
  kRpcHandled,
  kRpcSeconds,
  kRpcInFlight,
  kRpcCancelled,
  kRpcBytes,
  kModelState,
  kModelLoadSeconds,
  kModelResidentBytes,
  kModelLoadFailures,
  kModelEvictions,
  kModelEstimateError,
  kDeviceBudgetBytes,
  kDeviceMemoryBytes,
  kDeviceOutOfMemory,
  kJobsQueued,
  kJobsOldest,
  kJobsQueuedWork,
  kJobsRunning,
  kJobsFinished,
  kJobWaitSeconds,
  kJobRunSeconds,
  kJobAttempts,
  kJobLeasesLost,
  kJobsRecovered,
  kJobsRejected,
  kJobCancelSeconds,
  kCacheRequests,
  kCacheBytes,
  kCacheEvictions,
  kCacheSaved,
  kStoreSeconds,
  kStoreErrors,
  kStoreUp,
  kTokens,
  kNumMetrics,
};

}  // namespace moescope::internal
