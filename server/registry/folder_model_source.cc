#include "moescope/registry/model_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/file.h"
#include "moescope/base/sha256.h"
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
    std::vector<std::string> lines;
    std::error_code error;
    std::filesystem::directory_iterator entry(folder.path, error);
    while (!error && entry != std::filesystem::directory_iterator() &&
           lines.size() < kMaxFiles) {
      // Through links: a Hugging Face cache links to its blobs.
      struct stat info {};
      if (::stat(entry->path().c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
        lines.push_back(absl::StrCat(
            entry->path().filename().string(), "|", info.st_size, "|",
            info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec, "|",
            info.st_ctim.tv_sec, ".", info.st_ctim.tv_nsec, "|", info.st_ino));
      }
      entry.increment(error);
    }
    if (error) {
      return ErrnoStatus(error.value(), absl::StrCat("model ", folder.name));
    }
    std::sort(lines.begin(), lines.end());
    Sha256 hash;
    hash.Update(folder.path);
    for (const std::string& line : lines) {
      hash.Update(absl::StrCat("\n", line));
    }
    return hash.HexDigest();
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
    if (identities_ == nullptr ||
        identities_->Identify(checkpoint).is_content_hash) {
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
