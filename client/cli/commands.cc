#include "client/cli/commands.h"

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/cli/result_view.h"
#include "client/cli/views.h"
#include "client/export/result_document.h"
#include "client/lib/client.h"
#include "client/lib/rpc_status.h"

#include "moescope/base/byte_size.h"
#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/uuid.h"
#include "moescope/codec/messages.h"
#include "moescope/codec/parameters.h"

namespace moescope::client {
namespace {

constexpr absl::string_view kUsagePayload = "moescope/usage";

// For people, whatever standard output gets.
void Tell(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

// What Job.id looks like, and no result's name: a UUID.
bool IsJobId(absl::string_view text) {
  constexpr std::size_t kLength = 36;
  return text.size() == kLength && text[8] == '-' && text[13] == '-' &&
         text[18] == '-' && text[23] == '-';
}

absl::StatusOr<v1::Input> GivenInput(const InputArguments& arguments) {
  auto input = BuildInput(arguments);
  return input.ok() ? std::move(input) : UsageError(input.status());
}

// Why the job `id` is not watched any more. A call's own end does not end it.
absl::Status StillThere(const std::string& id, const absl::Status& status) {
  if (!absl::IsDeadlineExceeded(status) && !absl::IsUnavailable(status)) {
    return status;
  }
  return Annotate(status, absl::StrCat("job ", id, " goes on, see `jobs watch ",
                                       id, "`"));
}

// One command's run.
class Runner {
 public:
  Runner(const Arguments& arguments, ClientOptions options)
      : a_(arguments), client_(WithProgress(std::move(options))) {}

  absl::Status Models();
  absl::Status Trace();
  absl::Status Similarity();
  absl::Status Neurons();
  absl::Status Analyze();
  absl::Status Analyses();
  absl::Status Jobs();
  absl::Status Results();
  absl::Status Server();

 private:
  ClientOptions WithProgress(ClientOptions options) {
    options.on_progress = [this](const v1::Job& job) { progress_.Show(job); };
    return options;
  }

  // Prints `response` as JSON, or `view(response)`.
  template <class Response, class View>
  absl::Status Show(absl::StatusOr<Response> response, const View& view) {
    MOESCOPE_RETURN_IF_ERROR(response.status());
    progress_.Wipe();
    return WriteStandardOutput(a_.json ? MessageJson(*response)
                                       : std::string(view(*response)));
  }

  // Reads the result `name`, or that of the job `name`, into `document`.
  absl::Status Read(const std::string& name, const std::string& prefix,
                    ResultDocument& document);
  // `subject` itself, or the result of the job that it is.
  absl::StatusOr<std::string> ResultName(const std::string& subject);
  absl::StatusOr<v1::Job> Follow(const v1::Job& job);
  // Into the file, as JSON, or `view` of it.
  absl::Status Deliver(const ResultDocument& document,
                       const std::function<std::string()>& view);
  // The text of each token of a trace, where the model has a tokenizer.
  std::vector<v1::Token> TokenTexts(const ResultDocument& document);
  bool WantsArrays() const { return a_.json || !a_.output_file.empty(); }

  const Arguments& a_;
  ProgressLine progress_;
  Client client_;
};

absl::Status Runner::Read(const std::string& name, const std::string& prefix,
                          ResultDocument& document) {
  v1::ReadResultRequest source;
  if (IsJobId(name)) {
    source.set_job_id(name);
  } else {
    source.set_name(name);
  }
  std::vector<spec::Chunk> chunks;
  MOESCOPE_ASSIGN_OR_RETURN(const v1::Result result,
                            client_.ReadResult(source, [&](spec::Chunk chunk) {
                              chunks.push_back(std::move(chunk));
                              return absl::OkStatus();
                            }));
  MOESCOPE_ASSIGN_OR_RETURN(auto arrays, spec::Concatenate(std::move(chunks)));
  AddArrays(std::move(arrays), document);
  document.metadata.merge(ProvenanceStrings(result, prefix));
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> Runner::Follow(const v1::Job& job) {
  v1::Job ended = job;
  if (!HasEnded(job.state())) {
    const absl::Time shown_from = absl::Now() + absl::Seconds(1);
    auto watched = client_.WatchJob(job.id(), true, [&](const v1::Job& now) {
      if (absl::Now() >= shown_from) {
        progress_.Show(now);
      }
    });
    if (!watched.ok()) {
      progress_.Wipe();
      return StillThere(job.id(), watched.status());
    }
    ended = *std::move(watched);
  }
  progress_.Wipe();
  MOESCOPE_RETURN_IF_ERROR(JobStatus(ended));
  return ended;
}

absl::Status Runner::Deliver(const ResultDocument& document,
                             const std::function<std::string()>& view) {
  progress_.Wipe();
  if (a_.output_file.empty()) {
    if (!a_.json) {
      return WriteStandardOutput(view());
    }
    MOESCOPE_ASSIGN_OR_RETURN(const std::string text,
                              Encode(document, FileFormat::kJson));
    return WriteStandardOutput(text);
  }
  MOESCOPE_ASSIGN_OR_RETURN(const FileFormat format,
                            a_.format.empty() ? FormatOfPath(a_.output_file)
                                              : ParseFileFormat(a_.format));
  MOESCOPE_ASSIGN_OR_RETURN(const std::string bytes, Encode(document, format));
  MOESCOPE_RETURN_IF_ERROR(WriteOutputFile(a_.output_file, bytes));
  std::fprintf(stderr, "%zu arrays, %s, in %s\n", document.arrays.size(),
               FormatByteSize(static_cast<std::int64_t>(bytes.size())).c_str(),
               a_.output_file.c_str());
  return absl::OkStatus();
}

absl::Status Runner::Models() {
  switch (a_.command) {
    case Command::kModelsList:
      return Show(client_.ListModels(), ModelsText);
    case Command::kModelsDescribe:
      return Show(client_.GetModel(a_.subject), MessageText);
    case Command::kModelsUnload:
      return Show(client_.UnloadModel(a_.subject), MessageText);
    case Command::kModelsVerify: {
      MOESCOPE_ASSIGN_OR_RETURN(const auto verifying,
                                client_.VerifyModel(a_.subject));
      MOESCOPE_ASSIGN_OR_RETURN(const v1::Job job, Follow(verifying.job()));
      return Show(client_.GetModel(a_.subject),
                  [&](const v1::GetModelResponse& response) {
                    return VerdictText(job, response.model());
                  });
    }
    case Command::kModelsTokenize: {
      v1::TokenizeRequest request;
      request.set_model(a_.subject);
      request.set_text(a_.name);
      return Show(client_.Tokenize(request), TokensText);
    }
    default:
      break;
  }
  if (a_.dry_run) {
    return Show(client_.EstimateModel(a_.subject), EstimateText);
  }
  MOESCOPE_ASSIGN_OR_RETURN(const auto loading, client_.LoadModel(a_.subject));
  MOESCOPE_RETURN_IF_ERROR(Follow(loading.job()).status());
  return Show(client_.GetModel(a_.subject), MessageText);
}

std::vector<v1::Token> Runner::TokenTexts(const ResultDocument& document) {
  v1::TokenizeRequest request;
  request.set_model(a_.subject);
  for (const std::int32_t id : TokensToShow(document.arrays)) {
    request.mutable_tokens()->add_ids(id);
  }
  if (!request.has_tokens()) {
    return {};
  }
  // A model without a known tokenizer is shown by ids alone.
  const auto response = client_.Tokenize(request);
  return response.ok() ? std::vector<v1::Token>(response->tokens().begin(),
                                                response->tokens().end())
                       : std::vector<v1::Token>();
}

absl::Status Runner::Trace() {
  v1::TraceRoutingRequest request;
  v1::RoutingTraceSpec& spec = *request.mutable_spec();
  spec.set_model(a_.subject);
  spec.mutable_layers()->Add(a_.layers.begin(), a_.layers.end());
  spec.mutable_fields()->Add(a_.fields.begin(), a_.fields.end());
  spec.set_masked_groups(a_.masked_groups);
  request.set_cache_policy(a_.cache_policy);
  MOESCOPE_ASSIGN_OR_RETURN(*request.mutable_input(), GivenInput(a_.input));
  std::vector<spec::Chunk> chunks;
  MOESCOPE_ASSIGN_OR_RETURN(
      const v1::Result result,
      client_.TraceRouting(request, [&](moescope::spec::Chunk chunk) {
        chunks.push_back(std::move(chunk));
        return absl::OkStatus();
      }));
  ResultDocument document;
  MOESCOPE_ASSIGN_OR_RETURN(document.arrays,
                            moescope::spec::Concatenate(std::move(chunks)));
  document.metadata = ProvenanceStrings(result, "");
  return Deliver(document, [&] {
    const std::string& routing = result.provenance().routing();
    return TraceText(document.arrays, TokenTexts(document)) +
           (routing.empty() ? "" : absl::StrCat("routing: ", routing, "\n"));
  });
}

absl::Status Runner::Similarity() {
  v1::ComputeExpertSimilarityRequest request;
  v1::ExpertSimilaritySpec& spec = *request.mutable_spec();
  spec.set_model(a_.subject);
  spec.mutable_layers()->Add(a_.layers.begin(), a_.layers.end());
  spec.mutable_levels()->Add(a_.levels.begin(), a_.levels.end());
  spec.mutable_projections()->Add(a_.projections.begin(), a_.projections.end());
  spec.set_include_shared(a_.shared);
  spec.set_baseline(a_.baseline);
  request.set_cache_policy(a_.cache_policy);
  MOESCOPE_ASSIGN_OR_RETURN(const auto response,
                            client_.ComputeExpertSimilarity(request));
  if (a_.shared) {
    Tell(LeftOutText(response, "S"));
  }
  if (!a_.baseline.empty()) {
    Tell(LeftOutText(response, "F"));
  }
  ResultDocument document;
  if (WantsArrays() || response.too_large()) {
    MOESCOPE_RETURN_IF_ERROR(Read(response.result().name(), "", document));
  }
  return Deliver(document, [&] {
    return response.too_large() ? ArraysText(document.arrays)
                                : SimilarityText(response, a_.no_colour);
  });
}

absl::Status Runner::Neurons() {
  v1::ComputeNeuronStatisticsRequest request;
  v1::NeuronWeightStatisticsSpec& spec = *request.mutable_spec();
  spec.set_model(a_.subject);
  spec.mutable_layers()->Add(a_.layers.begin(), a_.layers.end());
  spec.mutable_projections()->Add(a_.projections.begin(), a_.projections.end());
  spec.set_include_shared(a_.shared);
  spec.set_baseline(a_.baseline);
  request.set_cache_policy(a_.cache_policy);
  if (a_.input.given()) {
    MOESCOPE_ASSIGN_OR_RETURN(*request.mutable_input(), GivenInput(a_.input));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const auto response,
                            client_.ComputeNeuronStatistics(request));
  ResultDocument document;
  if (WantsArrays() || response.too_large()) {
    MOESCOPE_RETURN_IF_ERROR(Read(response.result().name(), "", document));
    if (response.has_activation_result()) {
      MOESCOPE_RETURN_IF_ERROR(
          Read(response.activation_result().name(), "activation.", document));
    }
  }
  return Deliver(document, [&] {
    return response.too_large() ? ArraysText(document.arrays)
                                : NeuronsText(response);
  });
}

// The Spec of `analyze`; its empty token input counts as none, so that the
// request's own may stand beside it.
absl::StatusOr<v1::AnalysisSpec> BuildSpec(const Arguments& a) {
  MOESCOPE_ASSIGN_OR_RETURN(auto spec, spec::DefaultSpec(a.name));
  MOESCOPE_RETURN_IF_ERROR(
      codec::SetFromJson(spec, "model", JsonQuote(a.subject)));
  if (!a.baseline.empty()) {
    MOESCOPE_RETURN_IF_ERROR(
        codec::SetFromJson(spec, "baseline", JsonQuote(a.baseline)));
  }
  for (const auto& [name, value] : a.settings) {
    // The command line says "level", as `similarity` does.
    MOESCOPE_RETURN_IF_ERROR(
        codec::SetFromJson(spec, name == "level" ? "levels" : name, value));
  }
  return codec::ToMessage(spec);
}

absl::Status Runner::Analyze() {
  auto spec = BuildSpec(a_);
  if (!spec.ok()) {
    return UsageError(spec.status());
  }
  v1::SubmitAnalysisRequest request;
  *request.mutable_spec() = *std::move(spec);
  if (a_.input.given()) {
    MOESCOPE_ASSIGN_OR_RETURN(*request.mutable_input(), GivenInput(a_.input));
  }
  request.set_cache_policy(a_.cache_policy);
  request.set_priority(a_.priority);
  request.set_validate_only(a_.dry_run);
  request.set_request_id(NewUuidV7(absl::Now()));
  auto response = client_.SubmitAnalysis(request);
  if (!response.ok() || a_.dry_run) {
    return Show(std::move(response), MessageText);
  }
  if (a_.detach) {
    const std::string id = response->job().id();
    Tell(absl::StrCat("follow it with `moescope jobs watch ", id,
                      "`, get its result with `moescope results fetch ", id,
                      " -o FILE`\n"));
    return Show(std::move(response), [](const v1::SubmitAnalysisResponse& r) {
      return r.job().id() + "\n";
    });
  }
  MOESCOPE_ASSIGN_OR_RETURN(const v1::Job job, Follow(response->job()));
  ResultDocument document;
  MOESCOPE_RETURN_IF_ERROR(Read(job.result(), "", document));
  MOESCOPE_RETURN_IF_ERROR(
      Deliver(document, [&] { return ArraysText(document.arrays); }));
  Tell(absl::StrCat("result: ", job.result(), "\n"));
  return absl::OkStatus();
}

absl::Status Runner::Analyses() {
  auto response = client_.ListAnalyses();
  if (!response.ok() || a_.command == Command::kAnalysesList) {
    return Show(std::move(response), AnalysesText);
  }
  std::string known;
  for (const v1::AnalysisInfo& analysis : response->analyses()) {
    if (analysis.name() == a_.subject) {
      return Show(absl::StatusOr<v1::AnalysisInfo>(analysis), AnalysisText);
    }
    absl::StrAppend(&known, known.empty() ? "" : ", ", analysis.name());
  }
  return absl::NotFoundError(absl::StrCat("analysis: \"", a_.subject,
                                          "\" is unknown; known: ", known));
}

absl::Status Runner::Jobs() {
  switch (a_.command) {
    case Command::kJobsList: {
      v1::ListJobsRequest request;
      request.mutable_states()->Add(a_.states.begin(), a_.states.end());
      request.set_analysis(a_.name);
      request.set_model(a_.model);
      return Show(client_.ListJobs(std::move(request)), JobsText);
    }
    case Command::kJobsShow:
      return Show(client_.GetJob(a_.subject), MessageText);
    case Command::kJobsCancel:
      return Show(client_.CancelJob(a_.subject), MessageText);
    default:
      break;
  }
  absl::Status written;
  // Whoever only looks on does not cancel by leaving.
  MOESCOPE_ASSIGN_OR_RETURN(
      const v1::Job job,
      client_.WatchJob(a_.subject, false, [&](const v1::Job& now) {
        if (!a_.json) {
          written.Update(
              WriteStandardOutput(absl::StrCat(WatchText(now), "\n")));
        }
      }));
  if (a_.json) {
    written = WriteStandardOutput(MessageJson(job));
  } else if (!job.result().empty()) {
    written.Update(
        WriteStandardOutput(absl::StrCat("result: ", job.result(), "\n")));
  }
  absl::Status status = JobStatus(job);
  status.Update(written);
  return status;
}

absl::StatusOr<std::string> Runner::ResultName(const std::string& subject) {
  if (!IsJobId(subject)) {
    return subject;
  }
  MOESCOPE_ASSIGN_OR_RETURN(const v1::Job job, client_.GetJob(subject));
  if (!job.result().empty()) {
    return job.result();
  }
  if (!HasEnded(job.state())) {
    return absl::FailedPreconditionError(
        absl::StrCat("job ", subject, " is ", JobStateText(job.state()),
                     ": no result yet, see `jobs watch ", subject, "`"));
  }
  MOESCOPE_RETURN_IF_ERROR(JobStatus(job));
  return absl::NotFoundError(
      absl::StrCat("job ", subject, ": ", job.analysis(), " leaves no result"));
}

absl::Status Runner::Results() {
  if (a_.command == Command::kResultsShow) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::string name, ResultName(a_.subject));
    return Show(client_.GetResult(name), MessageText);
  }
  ResultDocument document;
  MOESCOPE_RETURN_IF_ERROR(Read(a_.subject, "", document));
  return Deliver(document, [] { return std::string(); });
}

absl::Status Runner::Server() {
  return a_.command == Command::kServerInfo
             ? Show(client_.GetServerInfo(), MessageText)
             : Show(client_.GetCacheStats(), CacheText);
}

absl::Status Dispatch(Runner& runner, Command command) {
  switch (command) {
    case Command::kModelsList:
    case Command::kModelsDescribe:
    case Command::kModelsLoad:
    case Command::kModelsUnload:
    case Command::kModelsVerify:
    case Command::kModelsTokenize:
      return runner.Models();
    case Command::kTrace:
      return runner.Trace();
    case Command::kSimilarity:
      return runner.Similarity();
    case Command::kNeurons:
      return runner.Neurons();
    case Command::kAnalyze:
      return runner.Analyze();
    case Command::kAnalysesList:
    case Command::kAnalysesDescribe:
      return runner.Analyses();
    case Command::kJobsList:
    case Command::kJobsShow:
    case Command::kJobsWatch:
    case Command::kJobsCancel:
      return runner.Jobs();
    case Command::kResultsShow:
    case Command::kResultsFetch:
      return runner.Results();
    case Command::kServerInfo:
    case Command::kServerCache:
      return runner.Server();
  }
  return absl::InternalError("a command without code");
}

}  // namespace

absl::Status RunCommand(const Arguments& arguments,
                        std::function<bool()> interrupted) {
  if (!arguments.output_file.empty()) {
    const absl::Status file = CheckOutputFile(arguments.output_file);
    if (!file.ok()) {
      return UsageError(file);
    }
  }
  ClientOptions options;
  options.address = arguments.server;
  options.interrupted = std::move(interrupted);
  if (arguments.timeout_seconds > 0) {
    options.deadline = absl::Seconds(arguments.timeout_seconds);
  }
  Runner runner(arguments, std::move(options));
  return Dispatch(runner, arguments.command);
}

int ExitCode(const absl::Status& status, bool interrupted) {
  if (interrupted && !status.ok()) {
    return 130;
  }
  if (status.GetPayload(kUsagePayload).has_value()) {
    return 2;
  }
  return status.ok() ? 0 : 1;
}

std::string FailureText(const absl::Status& status) {
  return status.GetPayload(kUsagePayload).has_value() || IsOutputError(status)
             ? absl::StrCat("error: ", status.message(), "\n")
             : ErrorText(status);
}

absl::Status UsageError(const absl::Status& status) {
  absl::Status out = status;
  out.SetPayload(kUsagePayload, absl::Cord());
  return out;
}

}  // namespace moescope::client
