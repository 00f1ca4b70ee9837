#include "client/cli/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/views.h"
#include "client/lib/client.h"

namespace moescope::client {

std::string ProgressText(const v1::Job& job) {
  if (job.state() == v1::JOB_STATE_QUEUED) {
    std::string out = absl::StrCat("queued, ", job.queue_position(), " before");
    if (job.progress().eta_seconds() > 0) {
      absl::StrAppend(&out, absl::StrFormat(", about %.0f s",
                                            std::ceil(
                                                job.progress().eta_seconds())));
    }
    return out;
  }
  const v1::JobProgress& progress = job.progress();
  if (progress.stage().empty()) {
    return "starting";
  }
  std::string out = absl::StrCat(progress.stage(), " ", progress.done());
  if (progress.total() > 0) {
    absl::StrAppend(&out, "/", progress.total());
  }
  absl::StrAppend(&out, " ", progress.unit());
  if (progress.eta_seconds() > 0) {
    const auto left = static_cast<double>(progress.total() - progress.done());
    if (left > 0) {
      absl::StrAppend(
          &out, absl::StrFormat(", %.3g/s", left / progress.eta_seconds()));
    }
    absl::StrAppend(&out, absl::StrFormat(", %.0f s left",
                                          std::ceil(progress.eta_seconds())));
  }
  return out;
}

std::string WatchText(const v1::Job& job) {
  const std::string state = JobStateText(job.state());
  if (job.from_cache()) {
    return absl::StrCat(state, ": answered from the cache");
  }
  // What has ended before its first stage does not start any more.
  return HasEnded(job.state()) && job.progress().stage().empty()
             ? state
             : absl::StrCat(state, ": ", ProgressText(job));
}

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { Wipe(); }

void ProgressLine::Show(const v1::Job& job) {
  if (terminal_) {
    // Back to the start of the line, then erase to its end.
    std::fprintf(stderr, "\r\x1b[K%s", ProgressText(job).c_str());
    std::fflush(stderr);
    shown_ = true;
  }
}

void ProgressLine::Wipe() {
  if (shown_) {
    std::fputs("\r\x1b[K", stderr);
    std::fflush(stderr);
    shown_ = false;
  }
}

}  // namespace moescope::client
