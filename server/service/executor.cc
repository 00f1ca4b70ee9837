// Does the work of executions: finds the models, runs the analysis, keeps its
// log and state.
#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/analysis/catalogue.h"
#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "moescope/codec/bytes.h"
#include "moescope/codec/parameters.h"
#include "moescope/model/compute_info.h"
#include "moescope/model/config.h"
#include "moescope/model/identity_store.h"
#include "moescope/model/tree_hash.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

// How the routers chose whose choices the result is about.
std::string DescribeRouting(const spec::AnalysisSpec& spec,
                            const model::ModelConfig& config) {
  const auto* const trace = std::get_if<spec::RoutingTraceSpec>(&spec);
  return model::DescribeRouter(
      config,
      trace == nullptr ? std::nullopt : trace->MaskedGroupsAreZero());
}

// Files what an analysis emits in the execution's log.
class LogSink final : public analysis::ChunkSink {
 public:
  // `check` tells whether what the analysis has read so far is to be trusted.
  // `resume_position` is where the work goes on now.
  LogSink(ResultStore& results, LogWriter& writer, ExecutionControl& control,
          std::function<absl::Status()> check, std::string resume_position)
      : results_(results),
        writer_(writer),
        control_(control),
        check_(std::move(check)),
        resume_position_(std::move(resume_position)) {}

  absl::Status Emit(spec::Chunk chunk) override {
    MOESCOPE_RETURN_IF_ERROR(check_());
    MOESCOPE_RETURN_IF_ERROR(writer_.Append(codec::EncodeChunk(chunk)));
    return writer_.ShouldCommit() ? Commit() : absl::OkStatus();
  }

  absl::Status SaveState(std::string bytes) override {
    MOESCOPE_RETURN_IF_ERROR(check_());
    MOESCOPE_RETURN_IF_ERROR(Commit());
    MOESCOPE_RETURN_IF_ERROR(
        results_.SaveState(writer_.key(), writer_.fence(),
                           writer_.extent().records, bytes));
    // The row changes only now: what it points at is there.
    resume_position_ = absl::StrCat(writer_.fence());
    return Publish();
  }

  absl::Status Commit() {
    MOESCOPE_RETURN_IF_ERROR(writer_.Commit().status());
    return Publish();
  }

 private:
  absl::Status Publish() {
    const LogExtent& extent = writer_.extent();
    Committed committed;
    committed.records = extent.records;
    committed.bytes = extent.bytes;
    committed.digest = extent.digest;
    committed.resume_position = resume_position_;
    return control_.Commit(committed);
  }

  ResultStore& results_;
  LogWriter& writer_;
  ExecutionControl& control_;
  const std::function<absl::Status()> check_;
  // Fence of the latest state that the row vouches for; empty: there is none.
  std::string resume_position_;
};

struct OpenedModels {
  Checkpoints checkpoints;
  analysis::ModelInputs inputs;
  // Keep the memory while the analysis runs: the resident model, pinned, with
  // the workspace beside it, or workspace alone.
  ModelHandle handle;
  WorkspaceReservation workspace;
};

absl::Status ModelChanged(const ExecutionRecord& execution) {
  return FieldError(absl::StatusCode::kFailedPrecondition, "spec.model",
                    absl::StrCat("files of a model have changed since this ",
                                 execution.analysis,
                                 " was asked for: ask again"),
                    "MODEL_CHANGED");
}

class AnalysisExecutor final : public Executor {
 public:
  explicit AnalysisExecutor(Service::State& state) : state_(state) {}

  absl::StatusOr<std::optional<ResultRow>> Execute(
      const ExecutionRecord& execution, ExecutionControl& control) override {
    auto done = Work(execution, control);
    if (GetErrorDetails(done.status()).reason == "OUT_OF_DEVICE_MEMORY") {
      state_.metrics.DeviceOutOfMemory(state_.device);
    }
    return done;
  }

  void Forget(const ExecutionRecord& execution) override {
    if (execution.analysis == kLoadModelJob ||
        execution.analysis == kVerifyModelJob) {
      return;  // They keep nothing.
    }
    const absl::Status status =
        state_.results->DiscardRunning(execution.key, execution.fence);
    if (!status.ok()) {
      // The maintenance finds what was left.
      Log(LogLevel::kWarning, "leftovers_not_removed",
          {{"execution", execution.id}, {"error", status.ToString()}});
    }
  }

 private:
  absl::StatusOr<std::optional<ResultRow>> Work(
      const ExecutionRecord& execution, ExecutionControl& control) {
    if (execution.analysis == kLoadModelJob) {
      MOESCOPE_RETURN_IF_ERROR(
          state_.registry->Load(execution.spec, control.context()));
      return std::optional<ResultRow>();
    }
    if (execution.analysis == kVerifyModelJob) {
      MOESCOPE_ASSIGN_OR_RETURN(
          const auto checkpoint,
          state_.registry->OpenCheckpoint(execution.spec));
      MOESCOPE_RETURN_IF_ERROR(
          model::VerifyWeights(*checkpoint, *state_.identities, *state_.pool,
                               control.context()));
      return std::optional<ResultRow>();
    }
    MOESCOPE_ASSIGN_OR_RETURN(const spec::AnalysisSpec spec,
                              codec::DecodeSpec(execution.spec));
    const absl::Time started = state_.clock.Now();
    MOESCOPE_ASSIGN_OR_RETURN(const OpenedModels models,
                              OpenModels(execution, spec, control.context()));
    MOESCOPE_ASSIGN_OR_RETURN(const LogExtent extent,
                              RunLogged(execution, spec, models, control));
    if (models.inputs.hasher != nullptr) {
      // Before the row, which names the content key, too.
      MOESCOPE_RETURN_IF_ERROR(state_.identities
                                   ->Record(*models.inputs.checkpoint,
                                            *models.inputs.hasher)
                                   .status());
    }
    if (const spec::TokenInput* const input = spec::GetTokenInput(spec)) {
      state_.metrics.AddTokens(static_cast<std::int64_t>(input->ids.size()));
    }
    return std::optional<ResultRow>(
        MakeRow(execution, spec, models.checkpoints, extent, started));
  }

  // Errors: MODEL_CHANGED when the files are not those that the key stands for:
  // no answer is filed under the key of another.
  absl::StatusOr<OpenedModels> OpenModels(const ExecutionRecord& execution,
                                          const spec::AnalysisSpec& spec,
                                          const RunContext& context) {
    OpenedModels models;
    MOESCOPE_ASSIGN_OR_RETURN(models.checkpoints,
                              OpenCheckpoints(state_, spec));
    const analysis::CostEstimate cost =
        EstimateCost(state_, spec, models.checkpoints);
    if (analysis::NeedsModel(spec)) {
      MOESCOPE_ASSIGN_OR_RETURN(
          models.handle,
          state_.registry->Acquire(spec::ModelNames(spec).front(),
                                   cost.memory_bytes, context));
    } else {
      MOESCOPE_ASSIGN_OR_RETURN(
          models.workspace,
          state_.registry->ReserveWorkspace(cost.memory_bytes, context,
                                            cost.device_bytes));
    }
    const std::vector<std::string> keys =
        PossibleKeys(state_, spec, models.checkpoints);
    if (std::none_of(keys.begin(), keys.end(), [&](const std::string& key) {
          return IsKeyOf(execution.key, key);
        })) {
      return ModelChanged(execution);
    }
    models.inputs.checkpoint = models.checkpoints.front();
    models.inputs.device = state_.device;
    // It reads all weights anyway.
    if (std::holds_alternative<spec::StaticSuiteSpec>(spec) &&
        !state_.identities->Identify(*models.inputs.checkpoint)
             .is_content_hash) {
      models.inputs.hasher =
          std::make_shared<model::TreeHasher>(*models.inputs.checkpoint);
    }
    if (models.checkpoints.size() > 1) {
      models.inputs.baseline = models.checkpoints[1];
    }
    if (models.handle) {
      if (&models.handle->checkpoint() != models.checkpoints.front().get()) {
        return ModelChanged(execution);
      }
      // Aliases the handle: the model lives as long as it is pinned.
      models.inputs.model = std::shared_ptr<const model::Model>(
          std::make_shared<ModelHandle>(models.handle), &*models.handle);
    }
    return models;
  }

  absl::StatusOr<LogExtent> RunLogged(const ExecutionRecord& execution,
                                      const spec::AnalysisSpec& spec,
                                      const OpenedModels& models,
                                      ExecutionControl& control) {
    std::optional<PreviousLog> previous;
    const Committed& committed = execution.committed;
    if (committed.records > 0 && committed.fence != execution.fence) {
      previous = PreviousLog{
          committed.fence,
          {committed.records, committed.bytes, committed.digest}};
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        StartedLog log,
        state_.results->StartLog(execution.key, execution.fence, previous));
    if (!log.previous.ok()) {
      Log(LogLevel::kWarning, "log_not_continued",
          {{"execution", execution.id}, {"error", log.previous.ToString()}});
    }
    MOESCOPE_ASSIGN_OR_RETURN(const analysis::ResumePoint resume,
                              FindResumePoint(execution, *log.writer));
    const auto check = [&] {
      return CheckIntact(state_, spec, models.checkpoints);
    };
    MOESCOPE_RETURN_IF_ERROR(check());
    LogSink sink(*state_.results, *log.writer, control, check,
                 resume.state.empty() ? "" : committed.resume_position);
    const absl::Status ran =
        analysis::Run(spec, models.inputs, resume, *state_.pool,
                      control.context(), sink);
    // First: what an analysis says of damaged weights explains nothing.
    MOESCOPE_RETURN_IF_ERROR(check());
    MOESCOPE_RETURN_IF_ERROR(ran);
    MOESCOPE_RETURN_IF_ERROR(sink.Commit());
    return state_.results->Seal(std::move(log.writer));
  }

  // Where the work goes on: after the chunks that the log holds, with the
  // state saved when it held no more than these. Only with one that its own row
  // names: under the same key others may have saved theirs, and who asks for
  // work to be done anew is not to be given those.
  absl::StatusOr<analysis::ResumePoint> FindResumePoint(
      const ExecutionRecord& execution, const LogWriter& writer) {
    analysis::ResumePoint resume;
    resume.chunks = writer.next_record();
    std::int64_t fence = 0;
    if (!absl::SimpleAtoi(execution.committed.resume_position, &fence)) {
      return resume;
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        std::optional<SavedState> saved,
        state_.results->LoadState(execution.key, fence));
    if (saved.has_value() && saved->fence == fence &&
        saved->records <= resume.chunks) {
      resume.state = std::move(saved->bytes);
    }
    return resume;
  }

  ResultRow MakeRow(const ExecutionRecord& execution,
                    const spec::AnalysisSpec& spec,
                    const Checkpoints& checkpoints, const LogExtent& extent,
                    absl::Time started) {
    spec::Provenance provenance;
    provenance.analysis = execution.analysis;
    provenance.analysis_version = static_cast<int>(execution.analysis_version);
    provenance.models = spec::ModelNames(spec);
    provenance.model_identities = ModelIdentities(state_, checkpoints);
    provenance.spec_json = codec::SpecToJson(spec);
    if (const spec::TokenInput* const input = spec::GetTokenInput(spec)) {
      provenance.tokens_digest = spec::TokensDigest(*input);
    }
    provenance.numerics_class = state_.numerics_class;
    provenance.routing = DescribeRouting(spec, checkpoints.front()->config());
    provenance.versions["moescope"] = state_.options.version;
    provenance.versions["torch"] = model::GetComputeInfo().torch_version;
    provenance.versions["blas"] = model::DescribeBlas().config;
    provenance.started = started;
    provenance.finished = state_.clock.Now();

    ResultRow row;
    row.key = execution.key;
    // The content may have become known since the key was made: others will ask
    // for it by that.
    const std::vector<std::string> keys =
        PossibleKeys(state_, spec, checkpoints);
    if (execution.key != keys.front() &&
        std::find(keys.begin(), keys.end(), execution.key) != keys.end()) {
      row.alias_keys = {keys.front()};
    }
    row.analysis = execution.analysis;
    row.bytes = extent.bytes;
    row.records = extent.records;
    row.digest = extent.digest;
    row.provenance = codec::EncodeProvenance(provenance);
    row.created = provenance.finished;
    row.last_used = provenance.finished;
    return row;
  }

  Service::State& state_;
};

}  // namespace

std::unique_ptr<Executor> MakeExecutor(Service::State& state) {
  return std::make_unique<AnalysisExecutor>(state);
}

}  // namespace moescope
