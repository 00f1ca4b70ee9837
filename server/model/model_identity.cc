#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"

#include "moescope/base/file.h"
#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"
#include "server/model/checkpoint_files_internal.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

// Where `path` leads; `path` itself when that can't be told.
std::string Resolve(const std::string& path) {
  std::error_code error;
  const std::filesystem::path resolved =
      std::filesystem::canonical(path, error);
  return error ? path : resolved.string();
}

// The SHA-256 that the blob behind `path` is named by. Blobs of small files are
// named by their git hash (40 digits), which is none.
std::optional<std::string> BlobHash(const std::string& path) {
  const std::filesystem::path resolved = Resolve(path);
  const std::string name = resolved.filename().string();
  const bool is_hash =
      name.size() == 64 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
      });
  if (!is_hash || resolved.parent_path().filename() != "blobs") {
    return std::nullopt;
  }
  return name;
}

std::optional<std::string> ContentHash(const CheckpointFiles& files) {
  Sha256 hash;
  hash.Update(TextDigests(files));
  for (const auto& shard : files.shards) {
    const std::optional<std::string> blob = BlobHash(shard.mapped->path());
    if (!blob.has_value()) return std::nullopt;
    hash.Update(absl::StrCat("shard ", *blob, " ", FileName(shard.mapped->path()),
                             "\n"));
  }
  return hash.HexDigest();
}

absl::Status HashStat(const std::string& path, Sha256& hash) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) {
    return ErrnoStatus(errno, FileName(path));
  }
  const auto nanoseconds = [](const struct timespec& time) {
    return absl::StrCat(time.tv_sec, ".", time.tv_nsec);
  };
  const std::string resolved = Resolve(path);
  hash.Update(absl::StrCat(resolved.size(), " ", resolved, " ", info.st_size,
                           " ", nanoseconds(info.st_mtim), " ",
                           nanoseconds(info.st_ctim), " ", info.st_ino, "\n"));
  return absl::OkStatus();
}

}  // namespace

std::string TextDigests(const CheckpointFiles& files) {
  std::string text =
      absl::StrCat("config ", Sha256Hex(files.config_text), "\n");
  if (!files.index_text.empty()) {
    absl::StrAppend(&text, "index ", Sha256Hex(files.index_text), "\n");
  }
  return text;
}

absl::StatusOr<ModelIdentity> IdentifyModel(const std::string& folder,
                                            const CheckpointFiles& files) {
  ModelIdentity identity;
  if (const std::optional<std::string> content = ContentHash(files)) {
    identity.id = absl::StrCat("content:", *content);
    identity.is_content_hash = true;
    return identity;
  }
  Sha256 hash;
  MOESCOPE_RETURN_IF_ERROR(HashStat(absl::StrCat(folder, "/config.json"), hash));
  if (!files.index_text.empty()) {
    MOESCOPE_RETURN_IF_ERROR(HashStat(
        absl::StrCat(folder, "/", files.index_name), hash));
  }
  for (const auto& shard : files.shards) {
    MOESCOPE_RETURN_IF_ERROR(HashStat(shard.mapped->path(), hash));
  }
  identity.id = absl::StrCat("stat:", hash.HexDigest());
  return identity;
}

}  // namespace moescope::model::internal
