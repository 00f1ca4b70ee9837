#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/service/views.h"
#include "moescope/spec/array.h"

namespace moescope {

/// Reads an answer chunk by chunk: from the cache, or following the execution
/// that makes it. For a direct call it also holds the job: while the stream
/// lives the job is wanted, whether or not it is read; when it is dropped before
/// its end the job lives for another 30 s, so that the client may come back
/// through ReadResult or by asking again.
/// Threads: one at a time.
class ResultStream {
 public:
  struct State;
  explicit ResultStream(std::unique_ptr<State> state);
  ~ResultStream();
  ResultStream(const ResultStream&) = delete;
  ResultStream& operator=(const ResultStream&) = delete;

  /// Name of the result.
  const std::string& key() const;
  /// The job that makes it; empty when the answer was there already.
  const std::string& job_id() const;
  bool cached() const { return job_id().empty(); }

  /// Number of the chunk that Next returns.
  std::int64_t next_chunk() const;
  /// The next chunk, waiting for it where need be; nullopt after the last.
  /// Errors: the job's own error; CANCELLED, DEADLINE_EXCEEDED of `context`
  /// (the job goes on); NOT_FOUND RESULT_NOT_FOUND (evicted, or damaged and
  /// dropped); UNAVAILABLE while the server drains.
  absl::StatusOr<std::optional<spec::Chunk>> Next(const RunContext& context);

  /// What is known of the result so far; complete after the last chunk.
  absl::StatusOr<ResultView> Info() const;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace moescope
