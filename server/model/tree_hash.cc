#include "moescope/model/tree_hash.h"

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"

#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"

namespace moescope::model {
namespace {

std::vector<std::int64_t> SizesOf(const Checkpoint& checkpoint) {
  std::vector<std::int64_t> sizes;
  for (const auto& file : checkpoint.weight_files()) {
    sizes.push_back(file->stamp().size_bytes);
  }
  return sizes;
}

}  // namespace

TreeHasher::TreeHasher(const Checkpoint& checkpoint)
    : TreeHasher(SizesOf(checkpoint)) {}

TreeHasher::TreeHasher(const std::vector<std::int64_t>& file_bytes)
    : sizes_(file_bytes), leaves_(file_bytes.size()) {
  for (std::size_t file = 0; file < sizes_.size(); ++file) {
    leaves_[file].resize(static_cast<std::size_t>(num_leaves(file)));
  }
}

std::int64_t TreeHasher::num_leaves(std::size_t file) const {
  return (sizes_[file] + kHashLeafBytes - 1) / kHashLeafBytes;
}

std::int64_t TreeHasher::LeafBytes(const HashLeaf& leaf) const {
  return std::min(kHashLeafBytes,
                  sizes_[leaf.file] - leaf.index * kHashLeafBytes);
}

absl::Status TreeHasher::AddLeaf(const HashLeaf& leaf,
                                 absl::string_view bytes) {
  if (leaf.file >= sizes_.size() || leaf.index < 0 ||
      leaf.index >= num_leaves(leaf.file)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tree hash: file ", leaf.file, " has no leaf ", leaf.index));
  }
  const auto index = static_cast<std::size_t>(leaf.index);
  if (static_cast<std::int64_t>(bytes.size()) != LeafBytes(leaf)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tree hash: leaf ", leaf.index, " of file ", leaf.file,
                     " has ", LeafBytes(leaf), " bytes, not ", bytes.size()));
  }
  {
    const MutexLock lock(mutex_);
    if (!leaves_[leaf.file][index].empty()) {
      return absl::OkStatus();
    }
  }
  std::string digest = Sha256Hex(bytes);
  const MutexLock lock(mutex_);
  leaves_[leaf.file][index] = std::move(digest);
  return absl::OkStatus();
}

std::vector<HashLeaf> TreeHasher::MissingLeaves() const {
  std::vector<HashLeaf> missing;
  const MutexLock lock(mutex_);
  for (std::size_t file = 0; file < leaves_.size(); ++file) {
    for (std::size_t i = 0; i < leaves_[file].size(); ++i) {
      if (leaves_[file][i].empty()) {
        missing.push_back({file, static_cast<std::int64_t>(i)});
      }
    }
  }
  return missing;
}

absl::StatusOr<std::vector<std::string>> TreeHasher::Roots() const {
  const std::size_t missing = MissingLeaves().size();
  if (missing > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("tree hash: ", missing, " leaves are missing"));
  }
  std::vector<std::string> roots;
  const MutexLock lock(mutex_);
  for (std::size_t file = 0; file < leaves_.size(); ++file) {
    Sha256 root;
    root.Update(absl::StrCat("moescope tree 1\n", sizes_[file], "\n"));
    for (const std::string& leaf : leaves_[file]) {
      root.Update(absl::StrCat(leaf, "\n"));
    }
    roots.push_back(root.HexDigest());
  }
  return roots;
}

absl::Status HashMissingLeaves(const Checkpoint& checkpoint, TreeHasher& hasher,
                               ThreadPool& pool, const RunContext& context) {
  const std::vector<HashLeaf> missing = hasher.MissingLeaves();
  std::int64_t to_do = 0;
  for (const HashLeaf& leaf : missing) {
    to_do += hasher.LeafBytes(leaf);
  }
  const std::int64_t total = checkpoint.weight_bytes();
  std::atomic<std::int64_t> done{total - to_do};
  const absl::Status read = pool.ParallelFor(
      static_cast<std::int64_t>(missing.size()),
      [&](std::int64_t i) -> absl::Status {
        MOESCOPE_RETURN_IF_ERROR(context.Check());
        const HashLeaf& leaf = missing[static_cast<std::size_t>(i)];
        const std::int64_t size = hasher.LeafBytes(leaf);
        const absl::string_view file =
            checkpoint.weight_files()[leaf.file]->bytes();
        MOESCOPE_RETURN_IF_ERROR(hasher.AddLeaf(
            leaf, file.substr(static_cast<std::size_t>(leaf.index *
                                                       kHashLeafBytes),
                              static_cast<std::size_t>(size))));
        context.ReportProgress(
            {"hashing weights", done.fetch_add(size) + size, total, "bytes"});
        return absl::OkStatus();
      });
  return read.ok() ? checkpoint.CheckIntact() : read;
}

}  // namespace moescope::model
