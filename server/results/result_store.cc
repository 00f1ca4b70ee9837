#include "moescope/results/result_store.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/log.h"
#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"
#include "server/results/log_writer_internal.h"
#include "server/results/result_store_internal.h"
#include "server/results/saved_state_internal.h"

namespace moescope {
namespace {

// Large enough for any accumulator, small enough to notice nonsense.
constexpr std::int64_t kMaxStateBytes = std::int64_t{16} << 30;
// How exactly the order of use survives a restart.
constexpr absl::Duration kTouchInterval = absl::Minutes(1);

// Copies the committed records of `previous` into `writer`.
absl::Status CopyPrevious(const internal::StoreFiles& files,
                          const PreviousLog& previous, LogWriter& writer) {
  // An execution that died between sealing and recording left its log sealed.
  auto source = internal::MakeLateSource(
      {files.RunningLog(writer.key(), previous.fence),
       files.SealedLog(writer.key())});
  const auto copy = [&writer](absl::string_view payload) -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(writer.Append(payload));
    return writer.ShouldCommit() ? writer.Commit().status() : absl::OkStatus();
  };
  MOESCOPE_RETURN_IF_ERROR(internal::VerifyLog(
      std::move(source), writer.key(), previous.extent, copy));
  return writer.Commit().status();
}

}  // namespace

namespace internal {

absl::Status VerifyLog(
    std::unique_ptr<LogSource> source, absl::string_view key,
    const LogExtent& extent,
    const std::function<absl::Status(absl::string_view)>& on_record) {
  LogReader reader(std::move(source), std::string(key), extent, 0, nullptr);
  Sha256 digest;
  for (;;) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<absl::string_view> payload,
                              reader.Next());
    if (!payload.has_value()) {
      break;
    }
    AddToDigest(digest, *payload);
    if (on_record) {
      MOESCOPE_RETURN_IF_ERROR(on_record(*payload));
    }
  }
  if (extent.bytes > 0 && digest.HexDigest() != extent.digest) {
    return absl::DataLossError(
        absl::StrCat("result log: digest ", digest.HexDigest(), ", expected ",
                     extent.digest));
  }
  return absl::OkStatus();
}

}  // namespace internal

ResultStore::ResultStore(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
ResultStore::~ResultStore() = default;

absl::StatusOr<std::unique_ptr<ResultStore>> ResultStore::Open(Options options,
                                                               Clock& clock) {
  if (options.dir.empty()) {
    return InvalidField("dir", "empty");
  }
  if (options.memory_bytes < 0) {
    return InvalidField("memory_bytes",
                        absl::StrCat(options.memory_bytes, " is below 0"));
  }
  if (options.disk_bytes < 0) {
    return InvalidField("disk_bytes",
                        absl::StrCat(options.disk_bytes, " is below 0"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(internal::StoreFiles files,
                            internal::StoreFiles::Open(options.dir));
  auto state =
      std::make_unique<State>(std::move(options), std::move(files), clock);
  MOESCOPE_RETURN_IF_ERROR(state->RefreshSealed());
  return std::unique_ptr<ResultStore>(new ResultStore(std::move(state)));
}

absl::StatusOr<StartedLog> ResultStore::StartLog(
    absl::string_view key, std::int64_t fence,
    const std::optional<PreviousLog>& previous) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckKey(key));
  MOESCOPE_RETURN_IF_ERROR(internal::CheckFence(fence));
  if (previous.has_value() && previous->fence == fence) {
    return InvalidField("fence",
                        absl::StrCat(fence, " is that of the previous log"));
  }
  const auto create = [&] {
    return internal::CreateLogWriter(
        key, fence, state_->files.running_folder(),
        state_->files.RunningLog(key, fence), state_->clock);
  };
  StartedLog started;
  MOESCOPE_ASSIGN_OR_RETURN(started.writer, create());
  if (!previous.has_value() || previous->extent.bytes == 0) {
    return started;
  }
  started.previous = CopyPrevious(state_->files, *previous, *started.writer);
  if (started.previous.ok()) {
    return started;
  }
  if (!absl::IsDataLoss(started.previous) &&
      !absl::IsNotFound(started.previous)) {
    return started.previous;  // A full disk does not make the log a bad one.
  }
  Log(LogLevel::kWarning, "result_log_not_continued",
      {{"key", key},
       {"fence", previous->fence},
       {"cause", started.previous.message()}});
  {
    const MutexLock lock(state_->mutex);
    ++state_->stats.corrupt;
  }
  MOESCOPE_ASSIGN_OR_RETURN(started.writer, create());
  return started;
}

absl::StatusOr<LogExtent> ResultStore::Seal(std::unique_ptr<LogWriter> writer) {
  MOESCOPE_ASSIGN_OR_RETURN(const LogExtent extent, writer->Commit());
  const internal::LogWriterState& log = *writer->state_;
  if (::fsync(log.file.get()) != 0) {
    return internal::WithoutPath(ErrnoStatus(errno, log.path),
                                 "sync result log");
  }
  const std::string sealed = state_->files.SealedLog(log.key);
  if (std::rename(log.path.c_str(), sealed.c_str()) != 0) {
    return internal::WithoutPath(ErrnoStatus(errno, sealed),
                                 "seal result log");
  }
  // The new name first: a crash in between may show both, never neither.
  MOESCOPE_RETURN_IF_ERROR(internal::SyncFolder(state_->files.sealed_folder()));
  MOESCOPE_RETURN_IF_ERROR(internal::SyncFolder(state_->files.running_folder()));
  MOESCOPE_ASSIGN_OR_RETURN(const internal::FileIdentity identity,
                            internal::IdentityOf(log.file));
  const absl::Time now = state_->clock.Now();
  state_->files.Touch(log.key, now);
  const MutexLock lock(state_->mutex);
  State::Entry& entry = state_->sealed[log.key];
  entry.bytes = extent.bytes;
  entry.last_used = now;
  entry.touched = now;
  entry.verified.emplace(extent, identity);
  state_->memory.Erase(log.key);
  return extent;
}

absl::Status ResultStore::SaveState(absl::string_view key, std::int64_t fence,
                                    std::int64_t records,
                                    absl::string_view bytes) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckKey(key));
  MOESCOPE_RETURN_IF_ERROR(internal::CheckFence(fence));
  return internal::WithoutPath(
      WriteFileAtomically(state_->files.RunningState(key, fence),
                          internal::EncodeState(key, records, bytes)),
      "save state");
}

absl::StatusOr<std::optional<SavedState>> ResultStore::LoadState(
    absl::string_view key, std::int64_t fence) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckKey(key));
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<internal::RunningFile> files,
                            state_->files.ListRunning());
  std::sort(files.begin(), files.end(),
            [](const internal::RunningFile& a, const internal::RunningFile& b) {
              return a.fence > b.fence;
            });
  for (const internal::RunningFile& file : files) {
    if (file.key != key || !file.is_state || file.fence > fence) {
      continue;
    }
    const absl::StatusOr<std::string> bytes =
        ReadFile(file.path, kMaxStateBytes);
    if (absl::IsNotFound(bytes.status())) {
      continue;  // Discarded since it was listed.
    }
    MOESCOPE_RETURN_IF_ERROR(
        internal::WithoutPath(bytes.status(), "read state"));
    absl::StatusOr<SavedState> state =
        internal::DecodeState(key, file.fence, *bytes);
    if (state.ok()) {
      return *std::move(state);
    }
    Log(LogLevel::kWarning, "saved_state_dropped",
        {{"key", key},
         {"fence", file.fence},
         {"cause", state.status().message()}});
    MOESCOPE_RETURN_IF_ERROR(internal::RemoveFile(file.path));
    const MutexLock lock(state_->mutex);
    ++state_->stats.corrupt;
  }
  return std::nullopt;
}

std::shared_ptr<const void> ResultStore::State::UseSealed(
    absl::string_view key) {
  const absl::Time now = clock.Now();
  bool touch = false;
  std::shared_ptr<const void> pin;
  {
    const MutexLock lock(mutex);
    auto found = sealed.find(key);
    if (found == sealed.end()) {
      // Another process may have written it.
      const std::optional<internal::SealedFile> file = files.FindSealed(key);
      if (!file.has_value()) {
        ++stats.misses;
        return nullptr;
      }
      found = sealed.emplace(std::string(key), Entry()).first;
      found->second.bytes = file->bytes;
    }
    Entry& entry = found->second;
    entry.last_used = now;
    entry.was_read = true;
    touch = now - entry.touched >= kTouchInterval;
    if (touch) {
      entry.touched = now;
    }
    pin = entry.readers.lock();
    if (pin == nullptr) {
      pin = std::make_shared<const char>('\0');
      entry.readers = pin;
    }
  }
  if (touch) {
    files.Touch(key, now);
  }
  return pin;
}

void ResultStore::State::DropDamaged(absl::string_view key,
                                     const absl::Status& why) {
  Log(LogLevel::kError, "result_log_dropped",
      {{"key", key}, {"cause", why.message()}});
  const absl::Status removed = internal::RemoveFile(files.SealedLog(key));
  if (!removed.ok()) {
    Log(LogLevel::kError, "result_log_not_removed",
        {{"key", key}, {"cause", removed.message()}});
  }
  const MutexLock lock(mutex);
  ++stats.corrupt;
  memory.Erase(key);
  const auto found = sealed.find(key);
  if (found != sealed.end()) {
    sealed.erase(found);
  }
}

absl::StatusOr<std::shared_ptr<const std::string>>
ResultStore::State::VerifySealed(absl::string_view key, const LogExtent& extent,
                                 const internal::FileDescriptor& file) {
  MOESCOPE_ASSIGN_OR_RETURN(const internal::FileIdentity identity,
                            internal::IdentityOf(file));
  bool keep = false;
  bool verified = false;
  {
    const MutexLock lock(mutex);
    keep = memory.Admits(extent.bytes);
    const auto found = sealed.find(key);
    verified = found != sealed.end() && found->second.verified.has_value() &&
               found->second.verified->first == extent &&
               found->second.verified->second == identity;
  }
  if (verified && !keep) {
    return nullptr;
  }
  MOESCOPE_ASSIGN_OR_RETURN(auto same_file, internal::DuplicateFile(file));
  auto source = internal::MakeFileSource(std::move(same_file));
  std::shared_ptr<const std::string> bytes;
  if (keep) {
    MOESCOPE_ASSIGN_OR_RETURN(const absl::string_view view,
                              source->Read(0, extent.bytes));
    bytes = std::make_shared<const std::string>(view);
    source = internal::MakeMemorySource(bytes);
  }
  // Once more even if the file was verified: these bytes were just read again.
  MOESCOPE_RETURN_IF_ERROR(
      internal::VerifyLog(std::move(source), key, extent, nullptr));
  const MutexLock lock(mutex);
  const auto found = sealed.find(key);
  if (found != sealed.end()) {
    found->second.verified.emplace(extent, identity);
  }
  if (keep) {
    memory.Insert(key, extent, bytes);
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<LogReader>> ResultStore::OpenSealed(
    absl::string_view key, const LogExtent& extent, std::int64_t first_record) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckKey(key));
  if (first_record < 0 || first_record > extent.records) {
    return FieldError(absl::StatusCode::kOutOfRange, "first_record",
                      absl::StrCat(first_record, " is outside [0, ",
                                   extent.records, "]"));
  }
  const auto reader = [&](std::unique_ptr<internal::LogSource> source,
                          std::shared_ptr<const void> pin) {
    return std::make_unique<LogReader>(std::move(source), std::string(key),
                                       extent, first_record, std::move(pin));
  };
  std::shared_ptr<const void> pin = state_->UseSealed(key);
  const absl::Status missing = absl::NotFoundError("result log: no such log");
  if (pin == nullptr) {
    return missing;
  }
  {
    const MutexLock lock(state_->mutex);
    if (auto bytes = state_->memory.Lookup(key, extent)) {
      ++state_->stats.memory_hits;
      return reader(internal::MakeMemorySource(std::move(bytes)), pin);
    }
  }
  absl::StatusOr<internal::FileDescriptor> file =
      internal::OpenForReading(state_->files.SealedLog(key));
  if (absl::IsNotFound(file.status())) {
    const MutexLock lock(state_->mutex);
    state_->sealed.erase(std::string(key));
    ++state_->stats.misses;
    return missing;
  }
  MOESCOPE_RETURN_IF_ERROR(file.status());
  absl::StatusOr<std::shared_ptr<const std::string>> bytes =
      state_->VerifySealed(key, extent, *file);
  if (absl::IsDataLoss(bytes.status())) {
    state_->DropDamaged(key, bytes.status());
  }
  MOESCOPE_RETURN_IF_ERROR(bytes.status());
  {
    const MutexLock lock(state_->mutex);
    ++state_->stats.disk_hits;
  }
  if (*bytes != nullptr) {
    return reader(internal::MakeMemorySource(*std::move(bytes)), pin);
  }
  return reader(internal::MakeFileSource(*std::move(file)), pin);
}

absl::StatusOr<std::unique_ptr<LogReader>> ResultStore::OpenRunning(
    absl::string_view key, std::int64_t fence, const LogExtent& extent,
    std::int64_t first_record) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckKey(key));
  MOESCOPE_RETURN_IF_ERROR(internal::CheckFence(fence));
  if (first_record < 0) {
    return FieldError(absl::StatusCode::kOutOfRange, "first_record",
                      absl::StrCat(first_record, " is below 0"));
  }
  return std::make_unique<LogReader>(
      internal::MakeLateSource({state_->files.RunningLog(key, fence),
                                state_->files.SealedLog(key)}),
      std::string(key), extent, first_record, nullptr);
}

}  // namespace moescope
