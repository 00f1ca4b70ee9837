#include "moescope/registry/model_source.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"
#include "moescope/model/tree_hash.h"

namespace moescope {
namespace {

// A model folder holds tens of files; a hundred shards at most a few hundred.
constexpr std::size_t kMaxFiles = 10'000;

class FolderModelSource final : public ModelSource {
 public:
  FolderModelSource(std::string model_root, std::string device,
                    model::IdentityStore* identities)
      : model_root_(std::move(model_root)),
        device_(std::move(device)),
        identities_(identities) {}

  absl::StatusOr<std::vector<model::ModelFolder>> List() const override {
    return model::DiscoverModels(model_root_);
  }

  absl::StatusOr<model::ModelFolder> Resolve(
      absl::string_view name) const override {
    return model::ResolveModel(model_root_, name);
  }

  absl::StatusOr<std::string> Fingerprint(
      const model::ModelFolder& folder) const override {
    // Every request asks for it, so files are looked up from their folder, not
    // from the root.
    DIR* const entries = ::opendir(folder.path.c_str());
    if (entries == nullptr) {
      return ErrnoStatus(errno, absl::StrCat("model ", folder.name));
    }
    const auto closer = absl::MakeCleanup([entries] { ::closedir(entries); });
    std::vector<std::string> lines;
    errno = 0;
    while (const dirent* const entry = ::readdir(entries)) {
      // Through links: a Hugging Face cache links to its blobs.
      struct stat info {};
      if (::fstatat(::dirfd(entries), entry->d_name, &info, 0) == 0 &&
          S_ISREG(info.st_mode) && lines.size() < kMaxFiles) {
        lines.push_back(absl::StrCat(
            entry->d_name, "|", info.st_size, "|", info.st_mtim.tv_sec, ".",
            info.st_mtim.tv_nsec, "|", info.st_ctim.tv_sec, ".",
            info.st_ctim.tv_nsec, "|", info.st_ino));
      }
      errno = 0;
    }
    if (errno != 0) {
      return ErrnoStatus(errno, absl::StrCat("model ", folder.name));
    }
    std::sort(lines.begin(), lines.end());
    return absl::StrCat(folder.path, "\n", absl::StrJoin(lines, "\n"));
  }

  absl::StatusOr<std::shared_ptr<const model::Checkpoint>> Open(
      const model::ModelFolder& folder) const override {
    return model::Checkpoint::Open(folder.path);
  }

  model::MemoryEstimate Estimate(
      const model::Checkpoint& checkpoint) const override {
    return model::Model::Estimate(checkpoint, device_);
  }

  absl::StatusOr<std::shared_ptr<const model::Model>> Load(
      std::shared_ptr<const model::Checkpoint> checkpoint, ThreadPool& pool,
      const RunContext& context) const override {
    MOESCOPE_RETURN_IF_ERROR(LearnIdentity(*checkpoint, pool, context));
    MOESCOPE_ASSIGN_OR_RETURN(
        std::shared_ptr<const model::Model> loaded,
        model::Model::Load(checkpoint, device_, pool, context));
    MOESCOPE_RETURN_IF_ERROR(checkpoint->CheckIntact());
    return loaded;
  }

 private:
  // Before the weights go to the device: then they come from the page cache.
  absl::Status LearnIdentity(const model::Checkpoint& checkpoint,
                             ThreadPool& pool,
                             const RunContext& context) const {
    if (identities_ == nullptr) {
      return absl::OkStatus();
    }
    MOESCOPE_RETURN_IF_ERROR(identities_->CheckUndamaged(checkpoint));
    if (identities_->Identify(checkpoint).is_content_hash) {
      return absl::OkStatus();
    }
    model::TreeHasher hasher(checkpoint);
    MOESCOPE_RETURN_IF_ERROR(
        model::HashMissingLeaves(checkpoint, hasher, pool, context));
    return identities_->Record(checkpoint, hasher).status();
  }

  const std::string model_root_;
  const std::string device_;
  model::IdentityStore* const identities_;
};

}  // namespace

std::unique_ptr<ModelSource> MakeFolderModelSource(
    std::string model_root, std::string device,
    model::IdentityStore* identities) {
  return std::make_unique<FolderModelSource>(
      std::move(model_root), std::move(device), identities);
}

}  // namespace moescope
