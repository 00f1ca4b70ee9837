#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

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
  /// in the log: what it held is hashed anew.
  /// Errors: PERMISSION_DENIED, INTERNAL.
  static absl::StatusOr<std::unique_ptr<IdentityStore>> Open(std::string path);
  IdentityStore(const IdentityStore&) = delete;
  IdentityStore& operator=(const IdentityStore&) = delete;

  /// The root of the file as it was at `stamp`; nullopt when it is not known.
  std::optional<std::string> FindRoot(const FileStamp& stamp) const;

  /// The best identity known: that of the content as soon as every file has
  /// been hashed, else the checkpoint's own.
  ModelIdentity Identify(const Checkpoint& checkpoint) const;

  /// Files the roots of `hasher`, which has all leaves of `checkpoint`, and
  /// returns the identity that follows; durable on return.
  /// Errors: FAILED_PRECONDITION (leaves are missing); DATA_LOSS FILE_CHANGED
  /// (the files are no more what was hashed: nothing is filed);
  /// RESOURCE_EXHAUSTED (disk full), INTERNAL.
  absl::StatusOr<ModelIdentity> Record(const Checkpoint& checkpoint,
                                       const TreeHasher& hasher);

 private:
  struct Entry {
    FileStamp stamp;
    std::string root;
  };
  explicit IdentityStore(std::string path) : path_(std::move(path)) {}
  static std::optional<std::map<std::string, Entry>> Parse(
      absl::string_view text);
  static std::string Format(const std::map<std::string, Entry>& entries);

  const std::string path_;
  mutable Mutex mutex_;
  // By path: a file that changed takes the place of what it was.
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

/// Reads all weights again and holds them against what is known of them: the
/// blob names of a Hugging Face cache (SHA-256 of each file), else the tree
/// hashes in `store`, which then knows those read now. Progress in bytes.
/// Errors: DATA_LOSS CONTENT_CHANGED naming file, expected and found hash;
/// those of HashMissingLeaves and Record.
absl::Status VerifyWeights(const Checkpoint& checkpoint, IdentityStore& store,
                           ThreadPool& pool, const RunContext& context);

}  // namespace moescope::model
