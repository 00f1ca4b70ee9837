#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/base/mapped_file.h"
#include "moescope/base/mutex.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/tree_hash.h"

namespace moescope::model {

/// Remembers the tree hashes of weight files by path, size, times and inode, so
/// that no file is hashed twice while it stays as it is; in one file, which a
/// later process takes up. Threads: safe.
class IdentityStore {
 public:
  /// `path` need not exist. A file that is damaged is put aside with a warning
  /// in the log: what it held is hashed anew. `clock` outlives the store.
  /// Errors: PERMISSION_DENIED, INTERNAL.
  static absl::StatusOr<std::unique_ptr<IdentityStore>> Open(
      std::string path, const Clock& clock = Clock::Real());
  IdentityStore(const IdentityStore&) = delete;
  IdentityStore& operator=(const IdentityStore&) = delete;

  /// The best identity known: that of the content as soon as every file has
  /// been hashed, else the checkpoint's own.
  ModelIdentity Identify(const Checkpoint& checkpoint) const;

  /// Since when all weight files are known to hold what they hold: when the
  /// newest of their hashes was first filed. nullopt: not all have been hashed
  /// (those that a Hugging Face cache names by their content never are).
  std::optional<absl::Time> FiledTime(const Checkpoint& checkpoint) const;

  /// Files the roots of `hasher`, which has all leaves of `checkpoint`, and
  /// returns the identity that follows; durable on return.
  /// Errors, which all leave what was filed before: FAILED_PRECONDITION (leaves
  /// are missing); DATA_LOSS FILE_CHANGED (the files are no more what was
  /// hashed); DATA_LOSS CONTENT_CHANGED naming file, expected and found hash (a
  /// file has the size and modification time it was filed with, but another
  /// content, as damage or a forger leaves it; a new modification time makes it
  /// a new file); RESOURCE_EXHAUSTED (disk full), INTERNAL.
  absl::StatusOr<ModelIdentity> Record(const Checkpoint& checkpoint,
                                       const TreeHasher& hasher);

  /// OK unless Record or VerifyWeights found a weight file of `checkpoint`
  /// damaged and the file is still what it was then: one that was restored,
  /// touched or replaced has other times. Known to this process alone.
  /// Errors: the DATA_LOSS CONTENT_CHANGED that was returned then.
  absl::Status CheckUndamaged(const Checkpoint& checkpoint) const;

  /// What a reading of `file` found: OK, or what CheckUndamaged is to return.
  void SetVerdict(const MappedFile& file, const absl::Status& verdict);

 private:
  struct Entry {
    FileStamp stamp;
    std::string root;
    // When this root was first filed for the path.
    absl::Time filed;
  };
  IdentityStore(std::string path, const Clock& clock)
      : path_(std::move(path)), clock_(clock) {}
  // `written`: when `text` was.
  static std::optional<std::map<std::string, Entry>> Parse(
      absl::string_view text, absl::Time written);
  static std::string Format(const std::map<std::string, Entry>& entries);
  // What is known of the file as it was at `stamp`.
  std::optional<Entry> Find(const FileStamp& stamp) const;
  void SetVerdictLocked(const FileStamp& stamp, const absl::Status& verdict)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const Clock& clock_;
  mutable Mutex mutex_;
  // By path: a file that changed takes the place of what it was.
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  struct Damage {
    FileStamp stamp;
    absl::Status status;
  };
  // By path.
  std::map<std::string, Damage> damaged_ ABSL_GUARDED_BY(mutex_);
};

/// Reads all weights again and holds them against what is known of them: the
/// blob names of a Hugging Face cache (SHA-256 of each file), else the tree
/// hashes in `store`, which then has those of new and rewritten files too.
/// Progress in bytes.
/// Errors: DATA_LOSS CONTENT_CHANGED naming file, expected and found hash, the
/// same at every call until the file is restored or touched; those of
/// HashMissingLeaves and Record.
absl::Status VerifyWeights(const Checkpoint& checkpoint, IdentityStore& store,
                           ThreadPool& pool, const RunContext& context);

}  // namespace moescope::model
