#include "moescope/telemetry/metrics.h"

#include <malloc.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <initializer_list>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_split.h"

#include "moescope/base/mutex.h"
#include "server/telemetry/metric_table_internal.h"

namespace moescope {
namespace {

constexpr std::size_t kMaxLabelSets = 200;
// The same for every histogram: from a cached answer to a night's work.
const prometheus::Histogram::BucketBoundaries kBuckets = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1,      2.5,   5,      10,    30,   60,    180,  600, 1800, 7200, 43200};

using LabelValues = std::vector<std::string>;

std::vector<std::string> LabelNames(const MetricDefinition& metric) {
  return absl::StrSplit(metric.labels, ',', absl::SkipEmpty());
}

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double total_pages = 0;
  double resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double AllocatedBytes() {
  const struct mallinfo2 heap = mallinfo2();
  return static_cast<double>(heap.uordblks) + static_cast<double>(heap.hblkhd);
}

}  // namespace

struct Metrics::State {
  State() {
    for (const MetricDefinition& metric : MetricTable()) {
      const std::string name(metric.name);
      const std::string help(metric.help);
      Family family;
      family.label_names = LabelNames(metric);
      if (metric.type == MetricType::kCounter) {
        family.counters =
            &prometheus::BuildCounter().Name(name).Help(help).Register(
                registry);
      } else if (metric.type == MetricType::kGauge) {
        family.gauges = &prometheus::BuildGauge().Name(name).Help(help).Register(
            registry);
      } else {
        family.histograms =
            &prometheus::BuildHistogram().Name(name).Help(help).Register(
                registry);
      }
      families.push_back(std::move(family));
    }
  }

  struct Family {
    std::vector<std::string> label_names;
    prometheus::Family<prometheus::Counter>* counters = nullptr;
    prometheus::Family<prometheus::Gauge>* gauges = nullptr;
    prometheus::Family<prometheus::Histogram>* histograms = nullptr;
    std::set<LabelValues> known;
  };

  // The labels to file `values` under; the one place that bounds their number.
  prometheus::Labels Labels(Family& family, LabelValues values)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (family.known.size() >= kMaxLabelSets && family.known.count(values) == 0) {
      values.assign(values.size(), "other");
    }
    prometheus::Labels labels;
    for (std::size_t i = 0; i < family.label_names.size(); ++i) {
      labels[family.label_names[i]] = values[i];
    }
    family.known.insert(std::move(values));
    return labels;
  }

  static LabelValues Values(std::initializer_list<absl::string_view> labels) {
    LabelValues values;
    for (const absl::string_view label : labels) {
      values.emplace_back(label);
    }
    return values;
  }

  void Add(internal::MetricIndex index,
           std::initializer_list<absl::string_view> labels, double amount) {
    const MutexLock lock(mutex);
    Family& family = families[index];
    family.counters->Add(Labels(family, Values(labels))).Increment(amount);
  }

  void Set(internal::MetricIndex index,
           std::initializer_list<absl::string_view> labels, double value) {
    const MutexLock lock(mutex);
    Family& family = families[index];
    family.gauges->Add(Labels(family, Values(labels))).Set(value);
  }

  void Shift(internal::MetricIndex index,
             std::initializer_list<absl::string_view> labels, double by) {
    const MutexLock lock(mutex);
    Family& family = families[index];
    family.gauges->Add(Labels(family, Values(labels))).Increment(by);
  }

  void Observe(internal::MetricIndex index,
               std::initializer_list<absl::string_view> labels,
               absl::Duration took) {
    const MutexLock lock(mutex);
    Family& family = families[index];
    family.histograms->Add(Labels(family, Values(labels)), kBuckets)
        .Observe(absl::ToDoubleSeconds(took));
  }

  // Sets a family of gauges to `values`; label sets seen before and not named
  // now become 0.
  void Replace(internal::MetricIndex index,
               const std::map<LabelValues, double>& values) {
    const MutexLock lock(mutex);
    Family& family = families[index];
    const std::set<LabelValues> before = family.known;
    for (const LabelValues& labels : before) {
      if (values.count(labels) == 0) {
        family.gauges->Add(Labels(family, labels)).Set(0);
      }
    }
    for (const auto& [labels, value] : values) {
      family.gauges->Add(Labels(family, labels)).Set(value);
    }
  }

  prometheus::Registry registry;
  Mutex mutex;
  std::vector<Family> families ABSL_GUARDED_BY(mutex);
};

Metrics::Metrics() : state_(std::make_unique<State>()) {
  // A series that is not there yet can't be told from one that is not served.
  for (const auto index :
       {internal::kJobAttempts, internal::kJobLeasesLost,
        internal::kJobsRecovered, internal::kCacheSaved, internal::kTokens}) {
    state_->Add(index, {}, 0);
  }
  for (const auto index :
       {internal::kReady, internal::kDraining, internal::kJobsOldest,
        internal::kJobsQueuedWork, internal::kStoreUp}) {
    state_->Set(index, {}, 0);
  }
  state_->Add(internal::kJobsRejected, {"QUEUE_FULL"}, 0);
}

Metrics::~Metrics() = default;

void Metrics::SetBuildInfo(absl::string_view version, absl::string_view torch,
                           absl::string_view blas_core) {
  state_->Set(internal::kBuildInfo, {version, torch, blas_core}, 1);
}

void Metrics::SetReady(bool ready) {
  state_->Set(internal::kReady, {}, ready ? 1 : 0);
}

void Metrics::SetDraining(bool draining) {
  state_->Set(internal::kDraining, {}, draining ? 1 : 0);
}

void Metrics::RpcStarted(absl::string_view method) {
  state_->Add(internal::kRpcStarted, {method}, 1);
  state_->Shift(internal::kRpcInFlight, {method}, 1);
}

void Metrics::RpcFinished(absl::string_view method, absl::string_view code,
                          absl::Duration took) {
  state_->Add(internal::kRpcHandled, {method, code}, 1);
  state_->Shift(internal::kRpcInFlight, {method}, -1);
  state_->Observe(internal::kRpcSeconds, {method}, took);
}

void Metrics::RpcCancelled(absl::string_view by) {
  state_->Add(internal::kRpcCancelled, {by}, 1);
}

void Metrics::RpcBytes(absl::string_view direction, std::int64_t bytes) {
  state_->Add(internal::kRpcBytes, {direction}, static_cast<double>(bytes));
}

void Metrics::SetModelsInState(absl::string_view state, std::int64_t count) {
  state_->Set(internal::kModelState, {state}, static_cast<double>(count));
}

void Metrics::ModelLoadSeconds(absl::string_view stage, absl::Duration took) {
  state_->Observe(internal::kModelLoadSeconds, {stage}, took);
}

void Metrics::SetModelResidentBytes(absl::string_view device,
                                    absl::string_view kind,
                                    std::int64_t bytes) {
  state_->Set(internal::kModelResidentBytes, {device, kind},
              static_cast<double>(bytes));
}

void Metrics::ModelLoadFailed(absl::string_view reason) {
  state_->Add(internal::kModelLoadFailures, {reason}, 1);
}

void Metrics::ModelEvicted(absl::string_view reason) {
  state_->Add(internal::kModelEvictions, {reason}, 1);
}

void Metrics::SetModelEstimateError(double ratio) {
  state_->Set(internal::kModelEstimateError, {}, ratio);
}

void Metrics::SetDeviceBudgetBytes(absl::string_view device,
                                   std::int64_t bytes) {
  state_->Set(internal::kDeviceBudgetBytes, {device},
              static_cast<double>(bytes));
}

void Metrics::SetDeviceMemoryBytes(absl::string_view device,
                                   absl::string_view kind,
                                   std::int64_t bytes) {
  state_->Set(internal::kDeviceMemoryBytes, {device, kind},
              static_cast<double>(bytes));
}

void Metrics::DeviceOutOfMemory(absl::string_view device) {
  state_->Add(internal::kDeviceOutOfMemory, {device}, 1);
}

void Metrics::SetQueue(const std::vector<QueuedJobs>& queued,
                       const std::vector<RunningJobs>& running,
                       absl::Duration oldest_age,
                       absl::Duration estimated_work) {
  std::map<LabelValues, double> queued_values;
  for (const QueuedJobs& entry : queued) {
    queued_values[{entry.analysis, entry.priority}] =
        static_cast<double>(entry.count);
  }
  std::map<LabelValues, double> running_values;
  for (const RunningJobs& entry : running) {
    running_values[{entry.analysis}] = static_cast<double>(entry.count);
  }
  state_->Replace(internal::kJobsQueued, queued_values);
  state_->Replace(internal::kJobsRunning, running_values);
  state_->Set(internal::kJobsOldest, {}, absl::ToDoubleSeconds(oldest_age));
  state_->Set(internal::kJobsQueuedWork, {},
              absl::ToDoubleSeconds(estimated_work));
}

void Metrics::JobFinished(absl::string_view analysis,
                          absl::string_view outcome) {
  state_->Add(internal::kJobsFinished, {analysis, outcome}, 1);
}

void Metrics::JobWaited(absl::string_view priority, absl::Duration waited) {
  state_->Observe(internal::kJobWaitSeconds, {priority}, waited);
}

void Metrics::JobRan(absl::string_view analysis, absl::Duration ran) {
  state_->Observe(internal::kJobRunSeconds, {analysis}, ran);
}

void Metrics::JobAttempted() { state_->Add(internal::kJobAttempts, {}, 1); }

void Metrics::JobLeaseLost() { state_->Add(internal::kJobLeasesLost, {}, 1); }

void Metrics::JobsRecovered(std::int64_t count) {
  state_->Add(internal::kJobsRecovered, {}, static_cast<double>(count));
}

void Metrics::JobRejected(absl::string_view reason) {
  state_->Add(internal::kJobsRejected, {reason}, 1);
}

void Metrics::JobCancelSeconds(absl::Duration took) {
  state_->Observe(internal::kJobCancelSeconds, {}, took);
}

void Metrics::CacheRequest(absl::string_view tier, absl::string_view outcome) {
  state_->Add(internal::kCacheRequests, {tier, outcome}, 1);
}

void Metrics::SetCacheBytes(absl::string_view tier, std::int64_t bytes) {
  state_->Set(internal::kCacheBytes, {tier}, static_cast<double>(bytes));
}

void Metrics::CacheEvicted(absl::string_view tier) {
  state_->Add(internal::kCacheEvictions, {tier}, 1);
}

void Metrics::CacheSaved(absl::Duration saved) {
  state_->Add(internal::kCacheSaved, {}, absl::ToDoubleSeconds(saved));
}

void Metrics::StoreSeconds(absl::string_view op, absl::Duration took) {
  state_->Observe(internal::kStoreSeconds, {op}, took);
}

void Metrics::StoreError(absl::string_view op) {
  state_->Add(internal::kStoreErrors, {op}, 1);
}

void Metrics::SetStoreUp(bool up) {
  state_->Set(internal::kStoreUp, {}, up ? 1 : 0);
}

void Metrics::AddTokens(std::int64_t tokens) {
  state_->Add(internal::kTokens, {}, static_cast<double>(tokens));
}

std::string Metrics::Serialize() {
  state_->Set(internal::kProcessResidentMemory, {}, ResidentBytes());
  state_->Set(internal::kProcessAllocatedMemory, {}, AllocatedBytes());
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, state_->registry.Collect());
  return out.str();
}

}  // namespace moescope
