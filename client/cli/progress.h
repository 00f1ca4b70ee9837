#pragma once

#include <string>

#include "moescope/v1/job.pb.h"

namespace moescope::client {

/// How far a job is, on one line without a newline:
/// "forward 512/2048 tokens, 210/s, 7 s left", "queued, 3 before".
std::string ProgressText(const v1::Job& job);

/// The state of a job and how far it is, on one line without a newline:
/// "running: forward 512/2048 tokens", "succeeded: answered from the cache",
/// "cancelled".
std::string WatchText(const v1::Job& job);

/// One line on stderr that rewrites itself; nothing where stderr is no
/// terminal. The line is wiped when the object goes.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void Show(const v1::Job& job);
  void Wipe();

 private:
  bool terminal_;
  bool shown_ = false;
};

}  // namespace moescope::client
