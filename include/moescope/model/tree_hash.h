#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/base/mutex.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/checkpoint.h"

namespace moescope::model {

/// Bytes of every leaf but a file's last.
inline constexpr std::int64_t kHashLeafBytes = std::int64_t{16} << 20;

/// One piece of a file.
struct HashLeaf {
  std::size_t file = 0;
  std::int64_t index = 0;
};

/// Hashes the weight files of one checkpoint leaf by leaf, in any order, for
/// whoever reads them anyway.
/// Definition: leaf i of a file is the SHA-256 of its bytes from i · 16 MiB on,
/// at most 16 MiB; the root of a file is the SHA-256 of the text
/// "moescope tree 1\n<size>\n" and the leaves' hex digests in order, a line
/// each. An empty file has no leaves.
/// Threads: safe; leaves are hashed outside the lock.
class TreeHasher {
 public:
  explicit TreeHasher(const Checkpoint& checkpoint);
  /// Files of these sizes.
  explicit TreeHasher(const std::vector<std::int64_t>& file_bytes);

  std::size_t num_files() const { return sizes_.size(); }
  std::int64_t num_leaves(std::size_t file) const;
  /// Length of one leaf in bytes.
  std::int64_t LeafBytes(const HashLeaf& leaf) const;

  /// Hashes one leaf. A leaf that was given before is passed over, unread.
  /// Errors: INVALID_ARGUMENT (no such leaf, `bytes` not as long as it is).
  absl::Status AddLeaf(const HashLeaf& leaf, absl::string_view bytes);
  /// Leaves not given yet, in file order: what is left to read for the roots.
  std::vector<HashLeaf> MissingLeaves() const;
  /// 64 hex digits per file. Errors: FAILED_PRECONDITION while leaves are
  /// missing.
  absl::StatusOr<std::vector<std::string>> Roots() const;

 private:
  const std::vector<std::int64_t> sizes_;
  mutable Mutex mutex_;
  // Per file, per leaf; empty: not given yet.
  std::vector<std::vector<std::string>> leaves_ ABSL_GUARDED_BY(mutex_);
};

/// Reads what `hasher`, which is of `checkpoint`, still misses, on all threads
/// of `pool`; progress in bytes of all files, stage "hashing weights".
/// Errors: CANCELLED, DEADLINE_EXCEEDED; DATA_LOSS FILE_CHANGED.
absl::Status HashMissingLeaves(const Checkpoint& checkpoint, TreeHasher& hasher,
                               ThreadPool& pool, const RunContext& context);

}  // namespace moescope::model
