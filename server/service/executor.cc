// Does the work of executions: finds the models, runs the analysis, keeps its
// log and state.
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/analysis/catalogue.h"
#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "moescope/codec/bytes.h"
#include "moescope/codec/parameters.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

// Files what an analysis emits in the execution's log.
class LogSink final : public analysis::ChunkSink {
 public:
  LogSink(ResultStore& results, LogWriter& writer, ExecutionControl& control)
      : results_(results), writer_(writer), control_(control) {}

  absl::Status Emit(spec::Chunk chunk) override {
    MOESCOPE_RETURN_IF_ERROR(writer_.Append(codec::EncodeChunk(chunk)));
    return writer_.ShouldCommit() ? Commit() : absl::OkStatus();
  }

  absl::Status SaveState(std::string bytes) override {
    MOESCOPE_RETURN_IF_ERROR(Commit());
    MOESCOPE_RETURN_IF_ERROR(
        results_.SaveState(writer_.key(), writer_.fence(),
                           writer_.extent().records, bytes));
    // The row changes only now: what it points at is there.
    resume_position_ = absl::StrCat(++states_);
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
  std::string resume_position_;
  std::int64_t states_ = 0;
};

struct OpenedModels {
  analysis::ModelInputs inputs;
  // Keeps the resident model pinned while the analysis runs.
  ModelHandle handle;
};

class AnalysisExecutor final : public Executor {
 public:
  explicit AnalysisExecutor(Service::State& state) : state_(state) {}

  absl::StatusOr<std::optional<ResultRow>> Execute(
      const ExecutionRecord& execution, ExecutionControl& control) override {
    if (execution.analysis == kLoadModelJob) {
      MOESCOPE_RETURN_IF_ERROR(
          state_.registry->Load(execution.spec, control.context()));
      return std::optional<ResultRow>();
    }
    MOESCOPE_ASSIGN_OR_RETURN(const spec::AnalysisSpec spec,
                              codec::DecodeSpec(execution.spec));
    const absl::Time started = state_.clock.Now();
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> identities,
                              ModelIdentities(state_, spec));
    MOESCOPE_ASSIGN_OR_RETURN(const OpenedModels models,
                              OpenModels(spec, control.context()));
    MOESCOPE_ASSIGN_OR_RETURN(const LogExtent extent,
                              RunLogged(execution, spec, models, control));
    if (const spec::TokenInput* const input = spec::GetTokenInput(spec)) {
      state_.metrics.AddTokens(static_cast<std::int64_t>(input->ids.size()));
    }
    return std::optional<ResultRow>(
        MakeRow(execution, spec, identities, extent, started));
  }

 private:
  absl::StatusOr<OpenedModels> OpenModels(const spec::AnalysisSpec& spec,
                                          const RunContext& context) {
    const std::vector<std::string> names = spec::ModelNames(spec);
    OpenedModels models;
    MOESCOPE_ASSIGN_OR_RETURN(models.inputs.checkpoint,
                              state_.registry->OpenCheckpoint(names.front()));
    if (names.size() > 1) {
      MOESCOPE_ASSIGN_OR_RETURN(models.inputs.baseline,
                                state_.registry->OpenCheckpoint(names[1]));
    }
    if (analysis::NeedsModel(spec)) {
      MOESCOPE_ASSIGN_OR_RETURN(
          models.handle, state_.registry->Acquire(names.front(), context));
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
    LogSink sink(*state_.results, *log.writer, control);
    MOESCOPE_RETURN_IF_ERROR(analysis::Run(spec, models.inputs, resume,
                                           *state_.pool, control.context(),
                                           sink));
    MOESCOPE_RETURN_IF_ERROR(sink.Commit());
    return state_.results->Seal(std::move(log.writer));
  }

  // Where the work goes on: after the chunks that the log holds, with the
  // state saved when it held no more than these.
  absl::StatusOr<analysis::ResumePoint> FindResumePoint(
      const ExecutionRecord& execution, const LogWriter& writer) {
    analysis::ResumePoint resume;
    resume.chunks = writer.next_record();
    MOESCOPE_ASSIGN_OR_RETURN(
        std::optional<SavedState> saved,
        state_.results->LoadState(execution.key, execution.fence));
    if (saved.has_value() && saved->records <= resume.chunks) {
      resume.state = std::move(saved->bytes);
    }
    return resume;
  }

  ResultRow MakeRow(const ExecutionRecord& execution,
                    const spec::AnalysisSpec& spec,
                    const std::vector<std::string>& identities,
                    const LogExtent& extent, absl::Time started) {
    spec::Provenance provenance;
    provenance.analysis = execution.analysis;
    provenance.analysis_version = static_cast<int>(execution.analysis_version);
    provenance.models = spec::ModelNames(spec);
    provenance.model_identities = identities;
    provenance.spec_json = codec::SpecToJson(spec);
    if (const spec::TokenInput* const input = spec::GetTokenInput(spec)) {
      provenance.tokens_digest = spec::TokensDigest(*input);
    }
    provenance.numerics_class = state_.numerics_class;
    provenance.versions["moescope"] = state_.options.version;
    provenance.started = started;
    provenance.finished = state_.clock.Now();

    ResultRow row;
    row.key = execution.key;
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
