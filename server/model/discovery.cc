#include "moescope/model/discovery.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model {
namespace {

namespace fs = std::filesystem;

// Folders below the model root that are looked into.
constexpr int kMaxDepth = 4;
// Bounds on what one look at a model root may cost.
constexpr std::int64_t kMaxEntries = 100'000;
constexpr std::size_t kMaxModels = 4096;
constexpr absl::string_view kCachePrefix = "models--";

// The errors of std::filesystem are taken as "not there": unreadable folders
// are left out.
std::optional<fs::path> Canonical(const fs::path& path) {
  std::error_code error;
  fs::path resolved = fs::canonical(path, error);
  if (error) return std::nullopt;
  return resolved;
}

// Canonical, for a path that begins with `root`, which has no links. Every
// request looks its model up, mostly without links, and then the folders above
// `root` need no second look.
std::optional<fs::path> CanonicalBelow(const fs::path& path,
                                       const fs::path& root) {
  fs::path at = root;
  for (auto part = std::next(path.begin(),
                             std::distance(root.begin(), root.end()));
       part != path.end(); ++part) {
    at /= *part;
    std::error_code error;
    const fs::file_type type = fs::symlink_status(at, error).type();
    if (type == fs::file_type::not_found || type == fs::file_type::none) {
      return std::nullopt;
    }
    if (type == fs::file_type::symlink) return Canonical(path);
  }
  return at;
}

bool IsInside(const fs::path& path, const fs::path& root) {
  const auto [root_end, path_at] =
      std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  static_cast<void>(path_at);
  return root_end == root.end();
}

// `folder` without links, if it and the config.json in it lie under `root`.
std::optional<fs::path> ModelPath(const fs::path& folder,
                                  const fs::path& root) {
  const std::optional<fs::path> resolved = CanonicalBelow(folder, root);
  const std::optional<fs::path> config =
      CanonicalBelow(folder / "config.json", root);
  std::error_code error;
  if (!resolved.has_value() || !config.has_value() ||
      !IsInside(*resolved, root) || !IsInside(*config, root) ||
      !fs::is_regular_file(*config, error)) {
    return std::nullopt;
  }
  return resolved;
}

// "models--org--name" to "org/name"; only the first separator is one.
std::string CacheModelName(absl::string_view folder_name) {
  folder_name.remove_prefix(kCachePrefix.size());
  const std::vector<std::string> parts =
      absl::StrSplit(folder_name, absl::MaxSplits("--", 1));
  return absl::StrJoin(parts, "/");
}

// As what Checkpoint::Open reads is named.
bool IsWeightFile(absl::string_view name) {
  return (absl::StartsWith(name, "model") &&
          (absl::EndsWith(name, ".safetensors") ||
           absl::EndsWith(name, ".safetensors.index.json"))) ||
         (absl::StartsWith(name, "pytorch_model") &&
          (absl::EndsWith(name, ".bin") ||
           absl::EndsWith(name, ".bin.index.json")));
}

class Walker {
 public:
  explicit Walker(fs::path root) : root_(std::move(root)) {}

  std::vector<ModelFolder> Walk() {
    if (!AddFolder(root_.filename().string(), root_)) Descend(root_, "", 1);
    std::vector<ModelFolder> models;
    for (auto& [name, model] : found_) models.push_back(std::move(model));
    return models;
  }

 private:
  struct Contents {
    // Sorted, so that the bounds cut off the same folders every time.
    std::vector<std::string> folders;
    bool has_weights = false;
  };

  Contents Look(const fs::path& folder) {
    Contents contents;
    std::error_code error;
    fs::directory_iterator entries(folder, error);
    for (; !error && entries != fs::directory_iterator();
         entries.increment(error)) {
      if (++num_entries_ > kMaxEntries) break;
      std::string name = entries->path().filename().string();
      std::error_code type_error;
      if (name.front() == '.') continue;
      if (entries->is_directory(type_error)) {
        contents.folders.push_back(std::move(name));
      } else if (IsWeightFile(name)) {
        contents.has_weights = true;
      }
    }
    std::sort(contents.folders.begin(), contents.folders.end());
    return contents;
  }

  // `prefix`: the folder's own name and a slash, empty for the root.
  void Descend(const fs::path& folder, const std::string& prefix, int depth) {
    const Contents contents = Look(folder);
    if (contents.has_weights && !prefix.empty()) {
      AddWithoutConfig(prefix.substr(0, prefix.size() - 1), folder);
    }
    for (const std::string& child : contents.folders) {
      const fs::path path = folder / child;
      if (absl::StartsWith(child, kCachePrefix)) {
        AddCacheModel(child, path);
        continue;
      }
      const std::optional<fs::path> resolved = Canonical(path);
      if (!resolved.has_value() || !IsInside(*resolved, root_)) continue;
      const std::string name = absl::StrCat(prefix, child);
      if (!AddFolder(name, path) && depth < kMaxDepth) {
        Descend(path, absl::StrCat(name, "/"), depth + 1);
      }
    }
  }

  // Whether it is a model. What is inside one is a part of it: the other
  // format's "original" of gpt-oss.
  bool AddFolder(const std::string& name, const fs::path& folder) {
    const std::optional<fs::path> path = ModelPath(folder, root_);
    if (path.has_value()) Add(name, *path);
    return path.has_value();
  }

  void AddCacheModel(const std::string& folder_name, const fs::path& folder) {
    const fs::path snapshots = folder / "snapshots";
    const std::string name = CacheModelName(folder_name);
    absl::StatusOr<std::string> revision =
        ReadFile((folder / "refs" / "main").string(), 1024);
    if (revision.ok()) {
      const absl::string_view trimmed =
          absl::StripAsciiWhitespace(*revision);
      if (!trimmed.empty() && trimmed.front() != '.' &&
          !absl::StrContains(trimmed, "/")) {
        const std::optional<fs::path> path =
            ModelPath(snapshots / std::string(trimmed), root_);
        if (path.has_value()) return Add(name, *path);
      }
    }
    AddNewestSnapshot(name, snapshots);
  }

  void AddNewestSnapshot(const std::string& name, const fs::path& snapshots) {
    std::optional<std::pair<fs::file_time_type, fs::path>> newest;
    for (const std::string& revision : Look(snapshots).folders) {
      std::optional<fs::path> path = ModelPath(snapshots / revision, root_);
      if (!path.has_value()) continue;
      std::error_code error;
      std::pair<fs::file_time_type, fs::path> candidate(
          fs::last_write_time(*path, error), *std::move(path));
      if (!newest.has_value() || newest->first < candidate.first) {
        newest = std::move(candidate);
      }
    }
    if (newest.has_value()) Add(name, newest->second);
  }

  // The first of two equal names stays, unless it alone has no config.
  void Add(const std::string& name, const fs::path& path) {
    const auto found = found_.find(name);
    if (found != found_.end() && !found->second.has_config) {
      found_.erase(found);
    }
    if (found_.size() < kMaxModels) {
      found_.emplace(name, ModelFolder{name, path.string(), true});
    }
  }

  void AddWithoutConfig(const std::string& name, const fs::path& path) {
    if (found_.size() < kMaxModels) {
      found_.emplace(name, ModelFolder{name, path.string(), false});
    }
  }

  const fs::path root_;
  std::int64_t num_entries_ = 0;
  std::map<std::string, ModelFolder> found_;
};

absl::StatusOr<fs::path> OpenRoot(const std::string& model_root) {
  const std::optional<fs::path> root = Canonical(model_root);
  std::error_code error;
  if (!root.has_value() || !fs::is_directory(*root, error)) {
    return absl::NotFoundError("the model root is no folder");
  }
  return *root;
}

absl::Status CheckName(absl::string_view name) {
  constexpr std::size_t kMaxBytes = 1024;
  if (name.empty()) return InvalidField("model", "is empty");
  if (name.size() > kMaxBytes) {
    return InvalidField("model", absl::StrCat("has ", name.size(),
                                              " bytes, at most ", kMaxBytes,
                                              " are allowed"));
  }
  const std::string quoted = internal::QuoteName(name);
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == '%' || c == '\\') {
      return InvalidField(
          "model", absl::StrCat(quoted, " holds a control character, '%' or a "
                                        "backslash"));
    }
  }
  if (name.front() == '/') {
    return InvalidField("model", absl::StrCat(quoted, " is an absolute path"));
  }
  for (const absl::string_view part : absl::StrSplit(name, '/')) {
    if (part.empty() || part == "." || part == "..") {
      return InvalidField("model", absl::StrCat(quoted, " has a component that "
                                                "is empty, \".\" or \"..\""));
    }
  }
  return absl::OkStatus();
}

bool HasHiddenPart(absl::string_view name) {
  return name.front() == '.' || absl::StrContains(name, "/.");
}

absl::Status UnknownModel(absl::string_view name,
                          const std::vector<ModelFolder>& models) {
  constexpr std::size_t kMaxListed = 10;
  std::vector<std::string> names;
  for (const ModelFolder& model : models) {
    if (!model.has_config) continue;
    if (names.size() == kMaxListed) {
      names.push_back("...");
      break;
    }
    names.push_back(model.name);
  }
  return FieldError(
      absl::StatusCode::kNotFound, "model",
      absl::StrCat(internal::QuoteName(name), " is not known (",
                   names.empty() ? "there are no models"
                                 : "known: " + absl::StrJoin(names, ", "),
                   ")"),
      "MODEL_NOT_FOUND");
}

}  // namespace

absl::StatusOr<std::vector<ModelFolder>> DiscoverModels(
    const std::string& model_root) {
  MOESCOPE_ASSIGN_OR_RETURN(const fs::path root, OpenRoot(model_root));
  return Walker(root).Walk();
}

absl::StatusOr<ModelFolder> ResolveModel(const std::string& model_root,
                                         absl::string_view name) {
  MOESCOPE_RETURN_IF_ERROR(CheckName(name));
  MOESCOPE_ASSIGN_OR_RETURN(const fs::path root, OpenRoot(model_root));
  const fs::path folder = root / std::string(name);
  if (!HasHiddenPart(name)) {
    const std::optional<fs::path> path = ModelPath(folder, root);
    if (path.has_value()) {
      return ModelFolder{std::string(name), path->string(), true};
    }
  }
  const std::vector<ModelFolder> models = Walker(root).Walk();
  for (const ModelFolder& model : models) {
    if (model.name == name && model.has_config) return model;
  }
  const std::optional<fs::path> resolved = Canonical(folder);
  std::error_code error;
  if (!HasHiddenPart(name) && resolved.has_value() &&
      IsInside(*resolved, root) && fs::is_directory(*resolved, error)) {
    return FieldError(absl::StatusCode::kFailedPrecondition, "model",
                      absl::StrCat("folder ", internal::QuoteName(name),
                                   " has no config.json"),
                      "MODEL_CONFIG_MISSING");
  }
  return UnknownModel(name, models);
}

}  // namespace moescope::model
