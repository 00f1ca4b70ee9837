#include "moescope/results/result_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"
#include "server/results/log_format_internal.h"
#include "server/results/log_writer_internal.h"
#include "server/results/store_files_internal.h"

namespace moescope {
namespace internal {

absl::StatusOr<std::unique_ptr<LogWriter>> CreateLogWriter(
    absl::string_view key, std::int64_t fence, std::string folder,
    std::string path, Clock& clock) {
  // A file of the same name may be open in a reader: take a new inode, never
  // shorten the old one under it.
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return WithoutPath(ErrnoStatus(errno, path), "replace result log");
  }
  const int fd =
      ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
  if (fd < 0) {
    return WithoutPath(ErrnoStatus(errno, path), "create result log");
  }
  auto state = std::make_unique<LogWriterState>();
  state->file = FileDescriptor(fd);
  state->key = std::string(key);
  state->fence = fence;
  state->folder = std::move(folder);
  state->path = std::move(path);
  state->clock = &clock;
  state->pending = EncodeLogHeader(key);
  return std::make_unique<LogWriter>(std::move(state));
}

void AddToDigest(Sha256& digest, absl::string_view payload) {
  digest.Update(LittleEndian(payload.size(), 8));
  digest.Update(payload);
}

}  // namespace internal

LogWriter::LogWriter(std::unique_ptr<internal::LogWriterState> state)
    : state_(std::move(state)) {}
LogWriter::~LogWriter() = default;

const std::string& LogWriter::key() const { return state_->key; }
std::int64_t LogWriter::fence() const { return state_->fence; }
const LogExtent& LogWriter::extent() const { return state_->extent; }

std::int64_t LogWriter::next_record() const {
  return state_->extent.records + state_->pending_records;
}

absl::Status LogWriter::Append(absl::string_view payload) {
  MOESCOPE_RETURN_IF_ERROR(state_->failure);
  if (static_cast<std::int64_t>(payload.size()) > kMaxRecordBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("result log: a record of ", payload.size(),
                     " bytes is longer than ", kMaxRecordBytes));
  }
  if (state_->pending_records == 0) {
    state_->pending_since = state_->clock->Now();
  }
  internal::AddToDigest(state_->digest, payload);
  absl::StrAppend(&state_->pending, internal::EncodeRecordHeader(payload),
                  payload);
  ++state_->pending_records;
  return absl::OkStatus();
}

bool LogWriter::ShouldCommit() const {
  if (state_->pending_records == 0) {
    return false;
  }
  return static_cast<std::int64_t>(state_->pending.size()) >= kCommitBytes ||
         state_->clock->Now() - state_->pending_since >= kCommitInterval;
}

absl::StatusOr<LogExtent> LogWriter::Commit() {
  internal::LogWriterState& state = *state_;
  MOESCOPE_RETURN_IF_ERROR(state.failure);
  if (state.pending.empty()) {
    return state.extent;
  }
  state.failure =
      internal::WriteAt(state.file, state.extent.bytes, state.pending);
  MOESCOPE_RETURN_IF_ERROR(state.failure);
  // After a failed sync the kernel may have dropped the pages: no second try.
  if (::fdatasync(state.file.get()) != 0) {
    state.failure = internal::WithoutPath(ErrnoStatus(errno, state.path),
                                          "sync result log");
    return state.failure;
  }
  if (state.extent.bytes == 0) {
    state.failure = internal::SyncFolder(state.folder);
    MOESCOPE_RETURN_IF_ERROR(state.failure);
  }
  state.extent.records += state.pending_records;
  state.extent.bytes += static_cast<std::int64_t>(state.pending.size());
  state.extent.digest = state.digest.HexDigest();
  state.pending.clear();
  state.pending_records = 0;
  return state.extent;
}

}  // namespace moescope
