#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "moescope/base/error.h"
#include "moescope/codec/bytes.h"
#include "moescope/codec/messages.h"
#include "moescope/codec/parameters.h"
#include "moescope/spec/analysis_spec.h"
#include "server/rpc/messages_internal.h"

namespace moescope::internal {
namespace {

// Jobs about a model, which their opaque bytes name; all others have a Spec.
bool IsModelJob(const JobRecord& record) {
  return record.analysis == "load_model" || record.analysis == "verify_model";
}

v1::Priority ToMessage(Priority priority) {
  return priority == Priority::kInteractive ? v1::PRIORITY_INTERACTIVE
                                            : v1::PRIORITY_BATCH;
}

v1::JobState ToMessage(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return v1::JOB_STATE_QUEUED;
    case JobState::kRunning:
      return v1::JOB_STATE_RUNNING;
    case JobState::kSucceeded:
      return v1::JOB_STATE_SUCCEEDED;
    case JobState::kFailed:
      return v1::JOB_STATE_FAILED;
    case JobState::kCancelled:
      return v1::JOB_STATE_CANCELLED;
    case JobState::kExpired:
      return v1::JOB_STATE_EXPIRED;
  }
  return v1::JOB_STATE_UNSPECIFIED;
}

// What the job's opaque bytes say: a model's name, or a Spec.
void SetSpec(const JobRecord& record, v1::Job& job) {
  if (IsModelJob(record)) {
    job.add_models(record.spec);
    return;
  }
  job.set_key(record.key);
  // One that another version wrote may not be readable; the job is shown all
  // the same.
  const auto spec = codec::DecodeSpec(record.spec);
  if (spec.ok()) {
    for (const std::string& model : spec::ModelNames(*spec)) {
      job.add_models(model);
    }
    job.set_spec_json(codec::SpecToJson(*spec));
    if (const spec::TokenInput* const input = spec::GetTokenInput(*spec)) {
      job.mutable_estimated_cost()->set_tokens(
          static_cast<std::int64_t>(input->ids.size()));
    }
  }
}

void SetTimes(const JobRecord& record, v1::Job& job) {
  *job.mutable_create_time() = codec::ToTimestamp(record.create_time);
  if (record.start_time.has_value()) {
    *job.mutable_start_time() = codec::ToTimestamp(*record.start_time);
  }
  if (record.finish_time.has_value()) {
    *job.mutable_end_time() = codec::ToTimestamp(*record.finish_time);
  }
  if (record.deadline.has_value()) {
    *job.mutable_deadline() = codec::ToTimestamp(*record.deadline);
  }
}

void SetResult(const JobRecord& record, v1::Job& job) {
  if (IsModelJob(record)) {
    return;
  }
  if (!record.result_key.empty()) {
    job.set_result(record.result_key);
  } else if (record.state == JobState::kRunning) {
    job.set_result(record.key);
  }
  job.set_from_cache(record.state == JobState::kSucceeded &&
                     record.execution_id.empty());
}

}  // namespace

v1::JobError ToJobError(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  v1::JobError error;
  error.set_code(static_cast<int>(status.code()));
  error.set_message(std::string(status.message()));
  error.set_reason(details.reason);
  for (const FieldViolation& field : details.fields) {
    v1::FieldViolation& violation = *error.add_field_violations();
    violation.set_field(field.field);
    violation.set_description(field.description);
  }
  error.mutable_metadata()->insert(details.metadata.begin(),
                                   details.metadata.end());
  return error;
}

v1::Job ToMessage(const JobRecord& record) {
  v1::Job job;
  job.set_id(record.id);
  job.set_client(record.client);
  job.set_request_id(record.request_id);
  job.set_analysis(record.analysis);
  job.set_analysis_version(static_cast<std::int32_t>(record.analysis_version));
  job.set_priority(ToMessage(record.priority));
  job.set_lane(record.lane);
  job.set_state(ToMessage(record.state));
  job.set_sequence(record.sequence);
  SetTimes(record, job);
  SetSpec(record, job);
  SetResult(record, job);
  job.set_attempt(static_cast<std::int32_t>(record.attempt));
  v1::JobProgress& progress = *job.mutable_progress();
  progress.set_stage(record.progress.stage);
  progress.set_done(record.progress.done);
  progress.set_total(record.progress.total);
  progress.set_unit(record.progress.unit);
  if (record.expected_end.has_value()) {
    progress.set_eta_seconds(std::max(
        0.0, absl::ToDoubleSeconds(*record.expected_end - absl::Now())));
  }
  job.mutable_estimated_cost()->set_seconds(record.estimated_seconds);
  if (record.state == JobState::kSucceeded) {
    job.mutable_actual_cost()->set_seconds(record.real_seconds);
  }
  if (!record.error.ok()) {
    *job.mutable_error() = ToJobError(record.error);
  }
  job.set_server_version(record.server_version);
  job.set_traceparent(record.traceparent);
  return job;
}

void SetQueuePlace(const QueuePlaces& places, const JobRecord& record,
                   v1::Job& job) {
  const auto place = places.find(record.execution_id);
  // It may have been started or cancelled since the record was read.
  if (record.state != JobState::kQueued || place == places.end()) {
    return;
  }
  job.set_queue_position(static_cast<std::int32_t>(place->second.position));
  job.mutable_progress()->set_eta_seconds(place->second.eta_seconds);
}

v1::JobCost ToMessage(const CostView& cost) {
  v1::JobCost message;
  message.set_seconds(cost.seconds);
  message.set_tokens(cost.tokens);
  message.set_flops(cost.flops);
  message.set_read_bytes(cost.bytes_read);
  message.set_memory_bytes(cost.memory_bytes + cost.device_bytes);
  return message;
}

v1::Result ToMessage(const ResultView& view) {
  v1::Result result;
  result.set_name(view.name);
  result.set_chunks(view.chunks);
  result.set_size_bytes(view.size_bytes);
  if (view.complete) {
    result.set_state(v1::RESULT_STATE_COMPLETE);
    result.set_digest(view.digest);
    *result.mutable_provenance() = codec::ToMessage(view.provenance);
  } else {
    result.set_state(v1::RESULT_STATE_PARTIAL);
  }
  return result;
}

absl::StatusOr<CachePolicy> FromMessage(v1::CachePolicy policy) {
  switch (policy) {
    case v1::CACHE_POLICY_UNSPECIFIED:
    case v1::CACHE_POLICY_USE:
      return CachePolicy::kUse;
    case v1::CACHE_POLICY_REFRESH:
      return CachePolicy::kRefresh;
    case v1::CACHE_POLICY_ONLY:
      return CachePolicy::kOnly;
    case v1::CACHE_POLICY_BYPASS:
      return CachePolicy::kBypass;
    default:
      return InvalidField("cache_policy",
                          absl::StrCat(static_cast<int>(policy),
                                       " is none of CACHE_POLICY_USE, "
                                       "_REFRESH, _ONLY, _BYPASS"));
  }
}

absl::StatusOr<LoadPolicy> FromMessage(v1::LoadPolicy policy) {
  switch (policy) {
    case v1::LOAD_POLICY_UNSPECIFIED:
    case v1::LOAD_POLICY_ON_DEMAND:
      return LoadPolicy::kOnDemand;
    case v1::LOAD_POLICY_NEVER:
      return LoadPolicy::kNever;
    default:
      return InvalidField("load_policy",
                          absl::StrCat(static_cast<int>(policy),
                                       " is none of LOAD_POLICY_ON_DEMAND, "
                                       "_NEVER"));
  }
}

absl::StatusOr<Priority> FromMessage(v1::Priority priority,
                                     Priority unspecified) {
  switch (priority) {
    case v1::PRIORITY_UNSPECIFIED:
      return unspecified;
    case v1::PRIORITY_INTERACTIVE:
      return Priority::kInteractive;
    case v1::PRIORITY_BATCH:
      return Priority::kBatch;
    default:
      return InvalidField("priority",
                          absl::StrCat(static_cast<int>(priority),
                                       " is none of PRIORITY_INTERACTIVE, "
                                       "_BATCH"));
  }
}

}  // namespace moescope::internal
