#include <array>

#include "absl/types/span.h"

#include "moescope/telemetry/metrics.h"
#include "server/telemetry/metric_table_internal.h"

namespace moescope {
namespace {

constexpr MetricType kCounter = MetricType::kCounter;
constexpr MetricType kGauge = MetricType::kGauge;
constexpr MetricType kHistogram = MetricType::kHistogram;

// In the order of MetricIndex.
constexpr std::array<MetricDefinition, internal::kNumMetrics> kTable = {{
    {"moescope_build_info", kGauge, "version,torch,blas_core", "",
     "1; what is running"},
    {"moescope_ready", kGauge, "", "", "1 while the server accepts work"},
    {"moescope_draining", kGauge, "", "", "1 while the server winds down"},
    {"moescope_process_resident_memory_bytes", kGauge, "", "bytes",
     "Resident memory of the process"},
    {"moescope_process_allocated_memory_bytes", kGauge, "", "bytes",
     "Memory that the process has from its allocator, mapped files left out"},
    {"moescope_rpc_started_total", kCounter, "method", "", "Calls begun"},
    {"moescope_rpc_handled_total", kCounter, "method,code", "",
     "Calls ended, by status code"},
    {"moescope_rpc_seconds", kHistogram, "method", "seconds",
     "From the start of a call to its end; streams included"},
    {"moescope_rpc_in_flight", kGauge, "method", "", "Calls being served"},
    {"moescope_rpc_cancelled_total", kCounter, "by", "",
     "Calls cut short, by client, deadline or server"},
    {"moescope_rpc_bytes_total", kCounter, "direction", "bytes",
     "Bytes of messages received and sent"},
    {"moescope_model_state", kGauge, "state", "",
     "Number of models in each state"},
    {"moescope_model_load_seconds", kHistogram, "stage", "seconds",
     "Time to load a model, by stage"},
    {"moescope_model_resident_bytes", kGauge, "device,kind", "bytes",
     "Memory that loaded models hold"},
    {"moescope_model_load_failures_total", kCounter, "reason", "",
     "Loads that failed"},
    {"moescope_model_evictions_total", kCounter, "reason", "",
     "Models that had to leave memory"},
    {"moescope_model_estimate_error_ratio", kGauge, "", "",
     "(loaded - estimated) / estimated bytes of weights, of the last load"},
    {"moescope_device_budget_bytes", kGauge, "device", "bytes",
     "Memory that models may take"},
    {"moescope_device_memory_bytes", kGauge, "device,kind", "bytes",
     "Memory of a GPU: allocated in tensors, reserved by the allocator beside "
     "them, free, other; there is none for a CPU"},
    {"moescope_device_out_of_memory_total", kCounter, "device", "",
     "Loads and runs that ended for want of device memory"},
    {"moescope_jobs_queued", kGauge, "analysis,priority", "",
     "Jobs that wait"},
    {"moescope_jobs_oldest_queued_seconds", kGauge, "", "seconds",
     "Age of the job that has waited longest; 0 for an empty queue"},
    {"moescope_jobs_queued_work_seconds", kGauge, "", "seconds",
     "Estimated work of what waits"},
    {"moescope_jobs_running", kGauge, "analysis", "", "Executions at work"},
    {"moescope_jobs_finished_total", kCounter, "analysis,outcome", "",
     "Jobs ended: succeeded, failed, cancelled, expired"},
    {"moescope_job_wait_seconds", kHistogram, "priority", "seconds",
     "From the submit of a piece of work to its first start"},
    {"moescope_job_run_seconds", kHistogram, "analysis", "seconds",
     "From the start of an attempt to its end"},
    {"moescope_job_attempts_total", kCounter, "", "", "Attempts begun"},
    {"moescope_job_leases_lost_total", kCounter, "", "",
     "Attempts whose lease went to another worker or ran out"},
    {"moescope_jobs_recovered_total", kCounter, "", "",
     "Executions taken back from workers that were lost"},
    {"moescope_jobs_rejected_total", kCounter, "reason", "",
     "Submits refused"},
    {"moescope_job_cancel_seconds", kHistogram, "", "seconds",
     "From the request to cancel to the idle worker"},
    {"moescope_cache_requests_total", kCounter, "tier,outcome", "",
     "Look-ups of results: hit, miss, join, corrupt"},
    {"moescope_cache_bytes", kGauge, "tier", "bytes", "Bytes of results kept"},
    {"moescope_cache_evictions_total", kCounter, "tier", "",
     "Results dropped to make room"},
    {"moescope_cache_saved_seconds_total", kCounter, "", "seconds",
     "Computing time that answers from the cache saved"},
    {"moescope_store_seconds", kHistogram, "op", "seconds",
     "Transactions of the job store"},
    {"moescope_store_errors_total", kCounter, "op", "",
     "Transactions that the job store failed"},
    {"moescope_store_up", kGauge, "", "",
     "1 while the last transaction of the job store succeeded"},
    {"moescope_tokens_total", kCounter, "", "", "Tokens run through models"},
}};

}  // namespace

absl::Span<const MetricDefinition> MetricTable() { return kTable; }

}  // namespace moescope
