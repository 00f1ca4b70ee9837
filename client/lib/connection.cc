#include "client/lib/connection.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/lib/rpc_status.h"

namespace moescope::client {
namespace {

// Side calls (progress, cancelling) must not hold up an interrupted user.
constexpr std::chrono::seconds kSideCallLimit(3);
// How long an interrupted call waits to learn the id of its job.
constexpr absl::Duration kJobIdWait = absl::Seconds(1);
constexpr absl::Duration kProgressInterval = absl::Milliseconds(500);
constexpr absl::Duration kRetryPause = absl::Milliseconds(300);
// What the server accepts is its limit; a reply is at most 3 MiB, a slice 1.
constexpr int kMaxReceiveBytes = 64 << 20;

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  arguments.SetUserAgentPrefix("moescope-client/" MOESCOPE_VERSION);
  // A proxy meant for the web can't reach a server on this machine.
  if (address.rfind("127.", 0) == 0 || address.rfind("localhost", 0) == 0 ||
      address.rfind("[::1]", 0) == 0) {
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  }
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

void LimitSideCall(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + kSideCallLimit);
}

absl::Status Plain(const grpc::Status& status) {
  return StatusFromRpc(static_cast<int>(status.error_code()),
                       status.error_message(), status.error_details());
}

}  // namespace

Client::Connection::Call::Call(const Connection& connection)
    : next_progress(started + connection.options_.progress_after) {
  if (connection.options_.deadline != absl::InfiniteDuration()) {
    context.set_deadline(
        absl::ToChronoTime(started + connection.options_.deadline));
  }
}

Client::Connection::Call::~Call() {
  // A queue must be empty before it goes.
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
}

Client::Connection::Connection(ClientOptions options)
    : options_(std::move(options)),
      channel_(MakeChannel(options_.address)),
      models_(v1::ModelService::NewStub(channel_)),
      analyses_(v1::AnalysisService::NewStub(channel_)),
      jobs_(v1::JobService::NewStub(channel_)),
      results_(v1::ResultService::NewStub(channel_)),
      admin_(v1::AdminService::NewStub(channel_)) {}

std::vector<std::string> Client::Connection::JobIdsOf(
    const grpc::ClientContext& context) {
  const auto told =
      context.GetServerInitialMetadata().equal_range("moescope-job-id");
  std::vector<std::string> ids;
  for (auto entry = told.first; entry != told.second; ++entry) {
    ids.emplace_back(entry->second.data(), entry->second.size());
  }
  return ids;
}

bool Client::Connection::Wait(Call& call, void* tag, const CallJobs& jobs) {
  void* done = nullptr;
  bool ok = false;
  while (true) {
    const auto event = call.queue.AsyncNext(
        &done, &ok, absl::ToChronoTime(absl::Now() + options_.poll_interval));
    if (event == grpc::CompletionQueue::GOT_EVENT && done == tag) {
      // A stream that never pauses is looked up from all the same.
      if (absl::Now() >= call.next_look_up) {
        LookUp(call, jobs);
      }
      return ok;
    }
    if (event == grpc::CompletionQueue::SHUTDOWN) {
      return false;
    }
    LookUp(call, jobs);
  }
}

void Client::Connection::CancelOnInterrupt(Call& call, const CallJobs& jobs) {
  const absl::Time now = absl::Now();
  call.interrupted_at = std::min(call.interrupted_at, now);
  const bool may_learn = jobs.cancel_on_interrupt && !jobs.known;
  if (call.cancelled ||
      (may_learn && now - call.interrupted_at <= kJobIdWait)) {
    return;
  }
  call.cancelled = true;
  if (jobs.cancel_on_interrupt) {
    for (const std::string& id : jobs.ids) {
      // Best effort: the user leaves whether it succeeds or not.
      CancelJob(id).status().IgnoreError();
    }
  }
  call.context.TryCancel();
}

void Client::Connection::LookUp(Call& call, const CallJobs& jobs) {
  const absl::Time now = absl::Now();
  call.next_look_up = now + options_.poll_interval;
  if (options_.interrupted && options_.interrupted()) {
    CancelOnInterrupt(call, jobs);
    return;
  }
  if (!jobs.show_progress || !options_.on_progress ||
      now < call.next_progress) {
    return;
  }
  // One line: that of the first job that still goes on.
  for (const std::string& id : jobs.ids) {
    call.next_progress = now + kProgressInterval;
    const auto current = GetJob(id);
    if (current.ok() && !HasEnded(current->state())) {
      options_.on_progress(*current);
      return;
    }
  }
}

absl::Status Client::Connection::ToStatus(const grpc::Status& status,
                                          const Call& call) const {
  if (call.cancelled && !status.ok()) {
    return absl::CancelledError("interrupted");
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE &&
      status.error_details().empty() &&
      channel_->GetState(false) != GRPC_CHANNEL_READY) {
    return absl::UnavailableError(absl::StrCat("server not reachable at ",
                                               options_.address, ": ",
                                               status.error_message()));
  }
  return Plain(status);
}

absl::StatusOr<v1::Job> Client::Connection::GetJob(const std::string& id) {
  grpc::ClientContext context;
  LimitSideCall(context);
  v1::GetJobRequest request;
  request.set_id(id);
  v1::GetJobResponse response;
  const grpc::Status status = jobs_->GetJob(&context, request, &response);
  if (!status.ok()) {
    return Plain(status);
  }
  return response.job();
}

absl::StatusOr<v1::Job> Client::Connection::CancelJob(const std::string& id) {
  grpc::ClientContext context;
  LimitSideCall(context);
  v1::CancelJobRequest request;
  request.set_id(id);
  v1::CancelJobResponse response;
  const grpc::Status status = jobs_->CancelJob(&context, request, &response);
  if (!status.ok()) {
    return Plain(status);
  }
  return response.job();
}

absl::Status Client::Connection::PauseBeforeRetry() {
  const absl::Time until = absl::Now() + kRetryPause;
  while (absl::Now() < until) {
    if (options_.interrupted && options_.interrupted()) {
      return absl::CancelledError("interrupted");
    }
    absl::SleepFor(options_.poll_interval);
  }
  return absl::OkStatus();
}

}  // namespace moescope::client
