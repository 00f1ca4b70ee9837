#include "moescope/model/identity_store.h"

#include <unistd.h>

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

constexpr absl::string_view kFirstLine = "moescope identities 1";
// A hundred thousand shards with long paths.
constexpr std::int64_t kMaxBytes = std::int64_t{64} << 20;
// Above it, what is no longer on disk is left out.
constexpr std::size_t kManyEntries = 10'000;

}  // namespace

// A line per file: root, size, mtime, ctime, inode, path (C-escaped), with tabs
// between; the last line is the SHA-256 of all lines before it.
std::string IdentityStore::Format(const std::map<std::string, Entry>& entries) {
  std::string text = absl::StrCat(kFirstLine, "\n");
  for (const auto& [path, entry] : entries) {
    const FileStamp& stamp = entry.stamp;
    absl::StrAppend(&text, entry.root, "\t", stamp.size_bytes, "\t",
                    stamp.mtime_ns, "\t", stamp.ctime_ns, "\t", stamp.inode,
                    "\t", absl::CEscape(path), "\n");
  }
  absl::StrAppend(&text, Sha256Hex(text), "\n");
  return text;
}

std::optional<std::map<std::string, IdentityStore::Entry>>
IdentityStore::Parse(absl::string_view text) {
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
  if (lines.empty() || lines.front() != kFirstLine) {
    return std::nullopt;
  }
  lines.erase(lines.begin());
  std::map<std::string, Entry> entries;
  for (const absl::string_view line : lines) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, '\t');
    Entry entry;
    FileStamp& stamp = entry.stamp;
    if (parts.size() != 6 || !absl::SimpleAtoi(parts[1], &stamp.size_bytes) ||
        !absl::SimpleAtoi(parts[2], &stamp.mtime_ns) ||
        !absl::SimpleAtoi(parts[3], &stamp.ctime_ns) ||
        !absl::SimpleAtoi(parts[4], &stamp.inode) ||
        !absl::CUnescape(parts[5], &stamp.path)) {
      return std::nullopt;
    }
    entry.root = std::string(parts[0]);
    entries.insert_or_assign(stamp.path, std::move(entry));
  }
  return entries;
}

absl::StatusOr<std::unique_ptr<IdentityStore>> IdentityStore::Open(
    std::string path) {
  std::unique_ptr<IdentityStore> store(new IdentityStore(std::move(path)));
  const absl::StatusOr<std::string> text = ReadFile(store->path_, kMaxBytes);
  if (absl::IsNotFound(text.status())) {
    return store;
  }
  if (!text.ok() && !absl::IsResourceExhausted(text.status())) {
    return text.status();
  }
  std::optional<std::map<std::string, Entry>> entries;
  if (text.ok()) {
    entries = Parse(*text);
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

std::optional<std::string> IdentityStore::FindRoot(
    const FileStamp& stamp) const {
  const MutexLock lock(mutex_);
  const auto found = entries_.find(stamp.path);
  if (found == entries_.end() || !(found->second.stamp == stamp)) {
    return std::nullopt;
  }
  return found->second.root;
}

ModelIdentity IdentityStore::Identify(const Checkpoint& checkpoint) const {
  if (checkpoint.identity().is_content_hash) {
    return checkpoint.identity();
  }
  std::vector<std::string> roots;
  for (const auto& file : checkpoint.weight_files()) {
    const std::optional<std::string> root = FindRoot(file->stamp());
    if (!root.has_value()) {
      return checkpoint.identity();
    }
    roots.push_back(*root);
  }
  return checkpoint.ContentIdentity(roots);
}

absl::StatusOr<ModelIdentity> IdentityStore::Record(
    const Checkpoint& checkpoint, const TreeHasher& hasher) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> roots,
                            hasher.Roots());
  MOESCOPE_RETURN_IF_ERROR(checkpoint.CheckIntact());
  const MutexLock lock(mutex_);
  std::map<std::string, Entry> entries = entries_;
  for (std::size_t i = 0; i < roots.size(); ++i) {
    const FileStamp& stamp = checkpoint.weight_files()[i]->stamp();
    entries.insert_or_assign(stamp.path, Entry{stamp, roots[i]});
  }
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

absl::Status ContentChanged(const MappedFile& file, absl::string_view expected,
                            absl::string_view found) {
  const std::string name = internal::FileName(file.path());
  ErrorDetails details;
  details.reason = "CONTENT_CHANGED";
  details.metadata = {{"file", name},
                      {"expected", std::string(expected)},
                      {"found", std::string(found)}};
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat(name, ": hash ", found, ", expected ", expected),
                   details);
}

// A blob's name is the hash of all its bytes in a row: a file is one thread's.
absl::Status VerifyBlob(const MappedFile& file, std::atomic<std::int64_t>& done,
                        std::int64_t total, const RunContext& context) {
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
  return found == expected ? absl::OkStatus()
                           : ContentChanged(file, expected, found);
}

}  // namespace

absl::Status VerifyWeights(const Checkpoint& checkpoint, IdentityStore& store,
                           ThreadPool& pool, const RunContext& context) {
  const auto& files = checkpoint.weight_files();
  if (checkpoint.identity().is_content_hash) {
    std::atomic<std::int64_t> done{0};
    const absl::Status blobs = pool.ParallelFor(
        static_cast<std::int64_t>(files.size()), [&](std::int64_t i) {
          return VerifyBlob(*files[static_cast<std::size_t>(i)], done,
                            checkpoint.weight_bytes(), context);
        });
    const absl::Status intact = checkpoint.CheckIntact();
    return intact.ok() ? blobs : intact;
  }
  TreeHasher hasher(checkpoint);
  MOESCOPE_RETURN_IF_ERROR(
      HashMissingLeaves(checkpoint, hasher, pool, context));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> roots,
                            hasher.Roots());
  absl::Status verdict;
  for (std::size_t i = 0; i < roots.size() && verdict.ok(); ++i) {
    const std::optional<std::string> known = store.FindRoot(files[i]->stamp());
    if (known.has_value() && *known != roots[i]) {
      verdict = ContentChanged(*files[i], *known, roots[i]);
    }
  }
  MOESCOPE_RETURN_IF_ERROR(store.Record(checkpoint, hasher).status());
  return verdict;
}

}  // namespace moescope::model
