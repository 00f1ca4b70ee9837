#include "moescope/model/identity_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/log.h"
#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model {
namespace {

constexpr absl::string_view kFirstLine = "moescope identities 2";
// Has no times of hashing.
constexpr absl::string_view kFirstLineOf1 = "moescope identities 1";
// A hundred thousand shards with long paths.
constexpr std::int64_t kMaxBytes = std::int64_t{64} << 20;
// Above it, what is no longer on disk is left out.
constexpr std::size_t kManyEntries = 10'000;

// When the file was last written.
absl::StatusOr<absl::Time> WriteTime(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) {
    return ErrnoStatus(errno, "identities");
  }
  return absl::TimeFromTimespec(status.st_mtim);
}

absl::Status ContentChanged(const MappedFile& file, absl::string_view expected,
                            absl::string_view found,
                            absl::string_view explanation) {
  const std::string name = internal::FileName(file.path());
  ErrorDetails details;
  details.reason = "CONTENT_CHANGED";
  details.metadata = {{"file", name},
                      {"expected", std::string(expected)},
                      {"found", std::string(found)}};
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat(name, ": hash ", found, ", expected ", expected,
                                " ", explanation),
                   details);
}

}  // namespace

// A line per file: root, microseconds since 1970 when it was filed, size, mtime,
// ctime, inode, path (C-escaped), with tabs between; the last line is the
// SHA-256 of all lines before it.
std::string IdentityStore::Format(const std::map<std::string, Entry>& entries) {
  std::string text = absl::StrCat(kFirstLine, "\n");
  for (const auto& [path, entry] : entries) {
    const FileStamp& stamp = entry.stamp;
    absl::StrAppend(&text, entry.root, "\t", absl::ToUnixMicros(entry.filed),
                    "\t", stamp.size_bytes, "\t", stamp.mtime_ns, "\t",
                    stamp.ctime_ns, "\t", stamp.inode, "\t",
                    absl::CEscape(path), "\n");
  }
  absl::StrAppend(&text, Sha256Hex(text), "\n");
  return text;
}

std::optional<std::map<std::string, IdentityStore::Entry>>
IdentityStore::Parse(absl::string_view text, absl::Time written) {
  constexpr std::size_t kDigestLine = 65;
  if (text.size() < kDigestLine) {
    return std::nullopt;
  }
  const absl::string_view body = text.substr(0, text.size() - kDigestLine);
  if (text.substr(body.size()) != absl::StrCat(Sha256Hex(body), "\n")) {
    return std::nullopt;
  }
  std::vector<absl::string_view> lines =
      absl::StrSplit(body, '\n', absl::SkipEmpty());
  if (lines.empty() ||
      (lines.front() != kFirstLine && lines.front() != kFirstLineOf1)) {
    return std::nullopt;
  }
  const bool has_times = lines.front() == kFirstLine;
  lines.erase(lines.begin());
  std::map<std::string, Entry> entries;
  for (const absl::string_view line : lines) {
    std::vector<absl::string_view> parts = absl::StrSplit(line, '\t');
    Entry entry;
    // What the file says was filed by the time that it was written.
    std::int64_t filed = absl::ToUnixMicros(written);
    if (has_times) {
      if (parts.size() < 2 || !absl::SimpleAtoi(parts[1], &filed)) {
        return std::nullopt;
      }
      parts.erase(parts.begin() + 1);
    }
    FileStamp& stamp = entry.stamp;
    if (parts.size() != 6 || !absl::SimpleAtoi(parts[1], &stamp.size_bytes) ||
        !absl::SimpleAtoi(parts[2], &stamp.mtime_ns) ||
        !absl::SimpleAtoi(parts[3], &stamp.ctime_ns) ||
        !absl::SimpleAtoi(parts[4], &stamp.inode) ||
        !absl::CUnescape(parts[5], &stamp.path)) {
      return std::nullopt;
    }
    entry.root = std::string(parts[0]);
    entry.filed = absl::FromUnixMicros(filed);
    entries.insert_or_assign(stamp.path, std::move(entry));
  }
  return entries;
}

absl::StatusOr<std::unique_ptr<IdentityStore>> IdentityStore::Open(
    std::string path, const Clock& clock) {
  std::unique_ptr<IdentityStore> store(
      new IdentityStore(std::move(path), clock));
  const absl::StatusOr<std::string> text = ReadFile(store->path_, kMaxBytes);
  if (absl::IsNotFound(text.status())) {
    return store;
  }
  if (!text.ok() && !absl::IsResourceExhausted(text.status())) {
    return text.status();
  }
  std::optional<std::map<std::string, Entry>> entries;
  if (text.ok()) {
    MOESCOPE_ASSIGN_OR_RETURN(const absl::Time written,
                              WriteTime(store->path_));
    entries = Parse(*text, written);
  }
  if (!entries.has_value()) {
    const std::string aside = absl::StrCat(store->path_, ".damaged");
    Log(LogLevel::kWarning, "identities_dropped", {{"kept_as", aside}});
    if (std::rename(store->path_.c_str(), aside.c_str()) != 0) {
      return ErrnoStatus(errno, "identities");
    }
    return store;
  }
  const MutexLock lock(store->mutex_);
  store->entries_ = *std::move(entries);
  return store;
}

std::optional<IdentityStore::Entry> IdentityStore::Find(
    const FileStamp& stamp) const {
  const MutexLock lock(mutex_);
  const auto found = entries_.find(stamp.path);
  if (found == entries_.end() || !(found->second.stamp == stamp)) {
    return std::nullopt;
  }
  return found->second;
}

ModelIdentity IdentityStore::Identify(const Checkpoint& checkpoint) const {
  if (checkpoint.identity().is_content_hash) {
    return checkpoint.identity();
  }
  std::vector<std::string> roots;
  for (const auto& file : checkpoint.weight_files()) {
    std::optional<Entry> entry = Find(file->stamp());
    if (!entry.has_value()) {
      return checkpoint.identity();
    }
    roots.push_back(std::move(entry->root));
  }
  return checkpoint.ContentIdentity(roots);
}

std::optional<absl::Time> IdentityStore::FiledTime(
    const Checkpoint& checkpoint) const {
  absl::Time newest = absl::InfinitePast();
  for (const auto& file : checkpoint.weight_files()) {
    const std::optional<Entry> entry = Find(file->stamp());
    if (!entry.has_value()) {
      return std::nullopt;
    }
    newest = std::max(newest, entry->filed);
  }
  return checkpoint.weight_files().empty() ? std::nullopt
                                           : std::optional(newest);
}

absl::Status IdentityStore::CheckUndamaged(const Checkpoint& checkpoint) const {
  const MutexLock lock(mutex_);
  if (damaged_.empty()) {
    return absl::OkStatus();  // At every request, of as many files.
  }
  for (const auto& file : checkpoint.weight_files()) {
    const auto found = damaged_.find(file->stamp().path);
    if (found != damaged_.end() && found->second.stamp == file->stamp()) {
      return found->second.status;
    }
  }
  return absl::OkStatus();
}

void IdentityStore::SetVerdict(const MappedFile& file,
                               const absl::Status& verdict) {
  const MutexLock lock(mutex_);
  SetVerdictLocked(file.stamp(), verdict);
}

void IdentityStore::SetVerdictLocked(const FileStamp& stamp,
                                     const absl::Status& verdict) {
  if (verdict.ok()) {
    damaged_.erase(stamp.path);
  } else {
    damaged_.insert_or_assign(stamp.path, Damage{stamp, verdict});
  }
}

absl::StatusOr<ModelIdentity> IdentityStore::Record(
    const Checkpoint& checkpoint, const TreeHasher& hasher) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> roots,
                            hasher.Roots());
  MOESCOPE_RETURN_IF_ERROR(checkpoint.CheckIntact());
  const MutexLock lock(mutex_);
  std::map<std::string, Entry> entries = entries_;
  absl::Status damage;
  for (std::size_t i = 0; i < roots.size(); ++i) {
    const MappedFile& file = *checkpoint.weight_files()[i];
    const FileStamp& stamp = file.stamp();
    absl::Time filed = clock_.Now();
    if (const auto old = entries.find(stamp.path); old != entries.end()) {
      const Entry& entry = old->second;
      if (entry.root == roots[i]) {
        filed = entry.filed;
      } else if (entry.stamp.size_bytes == stamp.size_bytes &&
                 entry.stamp.mtime_ns == stamp.mtime_ns) {
        const absl::Status status = ContentChanged(
            file, entry.root, roots[i],
            absl::StrCat("as filed on ",
                         absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", entry.filed,
                                          absl::UTCTimeZone()),
                         " for the same size and modification time: restore "
                         "the file, or, where the new content is meant, set its "
                         "modification time (touch)"));
        SetVerdictLocked(stamp, status);
        damage.Update(status);
        continue;
      }
    }
    SetVerdictLocked(stamp, absl::OkStatus());
    entries.insert_or_assign(stamp.path, Entry{stamp, roots[i], filed});
  }
  MOESCOPE_RETURN_IF_ERROR(damage);
  if (entries.size() > kManyEntries) {
    for (auto entry = entries.begin(); entry != entries.end();) {
      entry = ::access(entry->first.c_str(), F_OK) == 0 ? std::next(entry)
                                                        : entries.erase(entry);
    }
  }
  const absl::Status written = WriteFileAtomically(path_, Format(entries));
  if (!written.ok()) {
    Log(LogLevel::kError, "identities_not_written",
        {{"error", written.ToString()}});
    return absl::Status(absl::IsResourceExhausted(written)
                            ? absl::StatusCode::kResourceExhausted
                            : absl::StatusCode::kInternal,
                        "the weights' hashes could not be filed; the server's "
                        "log says more");
  }
  entries_ = std::move(entries);
  return checkpoint.ContentIdentity(roots);
}

namespace {

// A blob's name is the hash of all its bytes in a row: a file is one thread's.
absl::Status VerifyBlob(const MappedFile& file, IdentityStore& store,
                        std::atomic<std::int64_t>& done, std::int64_t total,
                        const RunContext& context) {
  constexpr std::size_t kPiece = std::size_t{8} << 20;
  Sha256 hash;
  absl::string_view rest = file.bytes();
  while (!rest.empty()) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const absl::string_view piece = rest.substr(0, kPiece);
    hash.Update(piece);
    rest.remove_prefix(piece.size());
    const auto size = static_cast<std::int64_t>(piece.size());
    context.ReportProgress(
        {"hashing weights", done.fetch_add(size) + size, total, "bytes"});
  }
  const std::string expected = internal::FileName(file.stamp().path);
  const std::string found = hash.HexDigest();
  absl::Status verdict =
      found == expected
          ? absl::OkStatus()
          : ContentChanged(file, expected, found,
                           "as its blob is named: download it again");
  store.SetVerdict(file, verdict);
  return verdict;
}

}  // namespace

absl::Status VerifyWeights(const Checkpoint& checkpoint, IdentityStore& store,
                           ThreadPool& pool, const RunContext& context) {
  const auto& files = checkpoint.weight_files();
  if (checkpoint.identity().is_content_hash) {
    std::atomic<std::int64_t> done{0};
    const absl::Status blobs = pool.ParallelFor(
        static_cast<std::int64_t>(files.size()), [&](std::int64_t i) {
          return VerifyBlob(*files[static_cast<std::size_t>(i)], store, done,
                            checkpoint.weight_bytes(), context);
        });
    const absl::Status intact = checkpoint.CheckIntact();
    return intact.ok() ? blobs : intact;
  }
  TreeHasher hasher(checkpoint);
  MOESCOPE_RETURN_IF_ERROR(
      HashMissingLeaves(checkpoint, hasher, pool, context));
  return store.Record(checkpoint, hasher).status();
}

}  // namespace moescope::model
