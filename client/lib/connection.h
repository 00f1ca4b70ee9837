#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/lib/client.h"

#include "moescope/v1/admin.grpc.pb.h"
#include "moescope/v1/analysis.grpc.pb.h"
#include "moescope/v1/job.grpc.pb.h"
#include "moescope/v1/model.grpc.pb.h"
#include "moescope/v1/result.grpc.pb.h"

namespace moescope::client {

/// The jobs behind a call in progress.
struct CallJobs {
  std::vector<std::string> ids;
  /// Whether the ids are known: given, or told by the server at the start of
  /// its answer. A call without jobs has none, and knows it.
  bool known = false;
  /// Whether an interruption cancels them.
  bool cancel_on_interrupt = true;
  /// Whether somebody is told how far they have come.
  bool show_progress = true;
};

/// Makes calls on one channel and looks up while they wait.
/// Threads: one at a time.
class Client::Connection {
 public:
  explicit Connection(ClientOptions options);

  /// One request, one reply. `prepare(context, queue)` makes the call's reader.
  template <class Response, class Prepare>
  absl::StatusOr<Response> Unary(const Prepare& prepare, CallJobs jobs) {
    Call call(*this);
    auto reader = prepare(&call.context, &call.queue);
    reader->StartCall();
    reader->ReadInitialMetadata(Tag(1));
    Response response;
    grpc::Status status;
    bool ok = Wait(call, Tag(1), jobs);
    jobs.ids = JobIdsOf(call.context);
    jobs.known = true;
    reader->Finish(&response, &status, Tag(2));
    ok = Wait(call, Tag(2), jobs) && ok;
    if (!status.ok()) {
      return ToStatus(status, call);
    }
    return response;
  }

  /// One request, many replies, each handed to `take`, whose error ends the
  /// call. `jobs` learns the ids that the server tells.
  template <class Response, class Prepare>
  absl::Status Stream(const Prepare& prepare, CallJobs& jobs,
                      const std::function<absl::Status(Response)>& take) {
    Call call(*this);
    auto reader = prepare(&call.context, &call.queue);
    reader->StartCall(Tag(1));
    bool ok = Wait(call, Tag(1), jobs);
    if (ok) {
      reader->ReadInitialMetadata(Tag(2));
      ok = Wait(call, Tag(2), jobs);
      if (auto ids = JobIdsOf(call.context); ok && !ids.empty()) {
        jobs.ids = std::move(ids);
      }
      jobs.known = true;
    }
    absl::Status taken;
    while (ok && taken.ok()) {
      Response response;
      reader->Read(&response, Tag(3));
      ok = Wait(call, Tag(3), jobs);
      if (ok) {
        taken = take(std::move(response));
      }
    }
    if (!taken.ok()) {
      call.context.TryCancel();
    }
    grpc::Status status;
    reader->Finish(&status, Tag(4));
    Wait(call, Tag(4), jobs);
    return taken.ok() ? ToStatus(status, call) : taken;
  }

  absl::StatusOr<v1::Job> GetJob(const std::string& id);
  absl::StatusOr<v1::Job> CancelJob(const std::string& id);
  /// Waits a moment before a stream is taken up again; CANCELLED when
  /// interrupted meanwhile.
  absl::Status PauseBeforeRetry();

  const std::unique_ptr<v1::ModelService::Stub>& models() { return models_; }
  const std::unique_ptr<v1::AnalysisService::Stub>& analyses() {
    return analyses_;
  }
  const std::unique_ptr<v1::JobService::Stub>& jobs() { return jobs_; }
  const std::unique_ptr<v1::ResultService::Stub>& results() { return results_; }
  const std::unique_ptr<v1::AdminService::Stub>& admin() { return admin_; }

 private:
  struct Call {
    explicit Call(const Connection& connection);
    ~Call();
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    absl::Time started = absl::Now();
    absl::Time next_progress;
    absl::Time next_look_up = started;
    absl::Time interrupted_at = absl::InfiniteFuture();
    bool cancelled = false;
  };

  static void* Tag(std::intptr_t number) {
    return reinterpret_cast<void*>(number);
  }
  static std::vector<std::string> JobIdsOf(const grpc::ClientContext& context);
  /// Waits for `tag`, looking up meanwhile; gives the event's success.
  bool Wait(Call& call, void* tag, const CallJobs& jobs);
  void LookUp(Call& call, const CallJobs& jobs);
  void CancelOnInterrupt(Call& call, const CallJobs& jobs);
  absl::Status ToStatus(const grpc::Status& status, const Call& call) const;

  ClientOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::AnalysisService::Stub> analyses_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
  std::unique_ptr<v1::ResultService::Stub> results_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
};

}  // namespace moescope::client
