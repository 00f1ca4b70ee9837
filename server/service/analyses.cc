// The calls of Service that start analyses.
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/draining.h"
#include "moescope/base/error.h"
#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/uuid.h"
#include "moescope/codec/bytes.h"
#include "server/service/result_stream_internal.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

// Of what was asked, not of what the files are now: a repetition is one, also
// when their content has become known in between.
std::string HashOfBody(const AnalysisRequest& request,
                       const spec::AnalysisSpec& spec) {
  const std::string deadline =
      request.deadline.has_value()
          ? absl::StrCat(absl::ToUnixMicros(*request.deadline))
          : "none";
  return Sha256Hex(absl::StrCat(
      codec::EncodeSpec(spec), "\n", static_cast<int>(request.cache_policy),
      " ", static_cast<int>(request.load_policy), " ",
      static_cast<int>(request.priority), " ", deadline));
}

SubmitRequest MakeSubmit(const Service::State& state,
                         const AnalysisRequest& request,
                         const PreparedAnalysis& prepared,
                         const CostView& cost) {
  SubmitRequest submit;
  submit.client = request.client;
  submit.request_id = request.request_id;
  submit.request_hash = HashOfBody(request, prepared.spec);
  submit.analysis = std::string(spec::AnalysisName(prepared.spec));
  submit.analysis_version = spec::AnalysisVersion(prepared.spec);
  submit.spec = codec::EncodeSpec(prepared.spec);
  submit.key = prepared.key;
  submit.numerics_class = state.numerics_class;
  submit.lane = std::string(kComputeLane);
  submit.affinity = spec::ModelNames(prepared.spec).front();
  submit.priority = request.priority;
  submit.deadline = request.deadline;
  submit.estimated_seconds = cost.seconds;
  submit.use_result = request.cache_policy == CachePolicy::kUse ||
                      request.cache_policy == CachePolicy::kOnly;
  submit.require_result = request.cache_policy == CachePolicy::kOnly;
  submit.traceparent = request.traceparent;
  submit.server_version = state.options.version;
  if (request.cache_policy == CachePolicy::kBypass) {
    submit.key = BypassKey(prepared.key);
    submit.share = false;
  }
  return submit;
}

void CountHit(Service::State& state, const char* tier,
              std::atomic<std::int64_t>& hits, const ResultRow& row) {
  hits.fetch_add(1);
  state.metrics.CacheRequest(tier, "hit");
  // A row that can't be read costs a statistic, not the answer.
  if (const auto view = ViewOf(row); view.ok()) {
    const absl::Duration saved =
        view->provenance.finished - view->provenance.started;
    state.cache_saved_us.fetch_add(absl::ToInt64Microseconds(saved));
    state.metrics.CacheSaved(saved);
  }
}

// What can never fit is refused before there is a job. An answer that is there
// needs no memory.
absl::Status CheckMemory(Service::State& state,
                         const PreparedAnalysis& prepared,
                         const CostView& cost, const SubmitRequest& submit) {
  if (submit.require_result || (submit.use_result && prepared.cached)) {
    return absl::OkStatus();
  }
  return state.registry->CheckBudget(
      analysis::NeedsModel(prepared.spec)
          ? spec::ModelNames(prepared.spec).front()
          : std::string(),
      cost.memory_bytes, cost.device_bytes);
}

// Makes the job, and drops a cached row first whose bytes are gone.
absl::StatusOr<SubmitReply> SubmitJob(Service::State& state,
                                      const SubmitRequest& submit) {
  if (submit.use_result) {
    // Asked now, not taken from before: an execution may just have ended.
    const auto row = state.store->GetResult(submit.key);
    if (row.ok() && !state.results->HasSealed(row->key)) {
      ForgetResult(state, row->key);
    }
  }
  absl::StatusOr<SubmitReply> reply =
      state.store->Submit(submit, state.clock.Now());
  MOESCOPE_RETURN_IF_ERROR(reply.status());
  if (reply->outcome == SubmitOutcome::kJoined) {
    state.cache_joins.fetch_add(1);
    state.metrics.CacheRequest("disk", "join");
  } else if (reply->outcome == SubmitOutcome::kQueued) {
    state.cache_misses.fetch_add(1);
    state.metrics.CacheRequest("disk", "miss");
  } else if (reply->outcome == SubmitOutcome::kCached) {
    // Evicted just now: a hit all the same.
    CountHit(state, "disk", state.cache_disk_hits,
             state.store->GetResult(reply->job.result_key)
                 .value_or(ResultRow()));
  }
  return reply;
}

// The cached answer, or nullptr when it has gone since it was looked for.
std::unique_ptr<ResultStream> OpenHit(Service::State& state,
                                      const ResultRow& row) {
  const std::int64_t memory_hits = state.results->stats().memory_hits;
  auto stream = OpenFinished(state, row, 0);
  if (!stream.ok()) {
    return nullptr;
  }
  if (state.results->stats().memory_hits > memory_hits) {
    CountHit(state, "memory", state.cache_memory_hits, row);
  } else {
    CountHit(state, "disk", state.cache_disk_hits, row);
  }
  return *std::move(stream);
}

}  // namespace

absl::Status RefuseWhileDraining(const Service::State& state) {
  if (!state.draining.load()) {
    return absl::OkStatus();
  }
  return DrainingError();
}

const std::vector<spec::AnalysisInfo>& Service::ListAnalyses() const {
  return analysis::Catalogue();
}

absl::StatusOr<std::vector<FitView>> Service::ListFits(
    absl::string_view analysis_name) {
  MOESCOPE_ASSIGN_OR_RETURN(const spec::AnalysisSpec defaults,
                            spec::DefaultSpec(analysis_name));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<ModelStatus> models,
                            state_->registry->List());
  std::vector<FitView> fits;
  for (const ModelStatus& status : models) {
    const auto checkpoint = state_->registry->OpenCheckpoint(status.name);
    if (!checkpoint.ok()) {
      fits.push_back({status.name, checkpoint.status()});
      continue;
    }
    const absl::Status forward =
        analysis::RequireForward(defaults, **checkpoint);
    if (!forward.ok()) {
      fits.push_back({status.name, forward});
      continue;
    }
    spec::AnalysisSpec spec = defaults;
    if (spec::TokenInput* const input = spec::MutableTokenInput(spec)) {
      input->ids = {0};
      input->lengths = {1};
    }
    fits.push_back({status.name,
                    spec::Normalise(analysis::FactsOf(**checkpoint, status.name),
                                    nullptr, {}, spec)});
  }
  return fits;
}

absl::StatusOr<SubmittedAnalysis> Service::Submit(AnalysisRequest request) {
  MOESCOPE_RETURN_IF_ERROR(RefuseWhileDraining(*state_));
  MOESCOPE_ASSIGN_OR_RETURN(PreparedAnalysis prepared, Prepare(request));
  const CostView cost = EstimateCost(prepared);
  const SubmitRequest submit = MakeSubmit(*state_, request, prepared, cost);
  MOESCOPE_RETURN_IF_ERROR(CheckMemory(*state_, prepared, cost, submit));
  MOESCOPE_ASSIGN_OR_RETURN(SubmitReply reply,
                            SubmitJob(*state_, submit));
  prepared.cached = reply.outcome == SubmitOutcome::kCached;
  return SubmittedAnalysis{std::move(reply.job), std::move(prepared), cost};
}

absl::StatusOr<std::unique_ptr<ResultStream>> Service::Run(
    const AnalysisRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(RefuseWhileDraining(*state_));
  MOESCOPE_ASSIGN_OR_RETURN(const PreparedAnalysis prepared, Prepare(request));
  return Run(request, prepared);
}

absl::StatusOr<std::unique_ptr<ResultStream>> Service::Run(
    const AnalysisRequest& request, const PreparedAnalysis& prepared) {
  MOESCOPE_RETURN_IF_ERROR(RefuseWhileDraining(*state_));
  const bool may_use = request.cache_policy == CachePolicy::kUse ||
                       request.cache_policy == CachePolicy::kOnly;
  if (may_use && prepared.answer.has_value()) {
    // A hit needs no job: nothing is written.
    std::unique_ptr<ResultStream> stream = OpenHit(*state_, *prepared.answer);
    if (stream != nullptr) {
      return stream;
    }
    // Evicted just now, or damaged and forgotten: it is computed again.
  }
  const CostView cost = EstimateCost(prepared);
  SubmitRequest submit = MakeSubmit(*state_, request, prepared, cost);
  MOESCOPE_RETURN_IF_ERROR(CheckMemory(*state_, prepared, cost, submit));
  submit.caller_expires = state_->clock.Now() + kCallerLease;
  MOESCOPE_ASSIGN_OR_RETURN(const SubmitReply reply,
                            SubmitJob(*state_, submit));
  return FollowJob(*state_, reply.job, Reader::kCaller, 0);
}

}  // namespace moescope
