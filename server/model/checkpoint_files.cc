#include "server/model/checkpoint_files_internal.h"

#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"
#include "moescope/model/pytorch_file.h"
#include "server/model/bounded_json_internal.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

constexpr std::int64_t kMaxConfigBytes = std::int64_t{16} << 20;
constexpr std::int64_t kMaxIndexBytes = std::int64_t{64} << 20;
constexpr std::size_t kMaxShards = 4096;
constexpr const char* kConfigName = "config.json";

absl::StatusOr<WeightShard> OpenSafetensors(const std::string& path) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::shared_ptr<const SafetensorsFile> file,
      SafetensorsFile::Open(path));
  return WeightShard{file->mapped(), &file->tensors(), file};
}

absl::StatusOr<WeightShard> OpenPytorch(const std::string& path) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::shared_ptr<const PytorchFile> file,
                            PytorchFile::Open(path));
  return WeightShard{file->mapped(), &file->tensors(), file};
}

// How a folder may hold its weights.
struct WeightFormat {
  const char* single;
  const char* index;
  const char* suffix;
  absl::StatusOr<WeightShard> (*open)(const std::string& path);
};

// In order of preference, in each the single file before the index.
constexpr WeightFormat kFormats[] = {
    {"model.safetensors", "model.safetensors.index.json", ".safetensors",
     &OpenSafetensors},
    {"pytorch_model.bin", "pytorch_model.bin.index.json", ".bin",
     &OpenPytorch}};

// Tensor name to shard name.
using WeightMap = std::map<std::string, std::string>;

bool Exists(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0;
}

absl::StatusOr<std::string> ReadText(const std::string& folder,
                                     const char* name, std::int64_t max_bytes) {
  absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat(folder, "/", name), max_bytes);
  if (text.ok()) return text;
  if (absl::IsNotFound(text.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, ": the model folder has none"));
  }
  // Not the original message: it shows the server's path.
  return absl::Status(text.status().code(), absl::StrCat(name, ": unreadable"));
}

bool IsPlainShardName(const std::string& name, const char* suffix) {
  return absl::EndsWith(name, suffix) && name.front() != '.' &&
         name.size() <= 255 &&
         name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

absl::StatusOr<WeightMap> ParseWeightMap(const std::string& text,
                                         const char* suffix) {
  MOESCOPE_ASSIGN_OR_RETURN(const nlohmann::json index, ParseJsonObject(text));
  const auto found = index.find("weight_map");
  if (found == index.end() || !found->is_object() || found->empty()) {
    return absl::DataLossError("weight_map: must be an object with tensors");
  }
  WeightMap map;
  for (const auto& item : found->items()) {
    if (!item.value().is_string()) {
      return absl::DataLossError(absl::StrCat(
          "weight_map: tensor ", QuoteName(item.key()), " has no file name"));
    }
    auto shard = item.value().get<std::string>();
    if (!IsPlainShardName(shard, suffix)) {
      return absl::DataLossError(absl::StrCat(
          "weight_map: tensor ", QuoteName(item.key()), " lies in ",
          QuoteName(shard), ", which is no plain *", suffix, " file name"));
    }
    map.emplace_hint(map.end(), item.key(), std::move(shard));
  }
  return map;
}

absl::StatusOr<WeightShard> OpenShard(const std::string& folder,
                                      const WeightFormat& format,
                                      const std::string& name) {
  absl::StatusOr<WeightShard> shard =
      format.open(absl::StrCat(folder, "/", name));
  if (absl::IsNotFound(shard.status())) {
    return absl::FailedPreconditionError(absl::StrCat(
        format.index, ": shard ", QuoteName(name), " is missing"));
  }
  return shard;
}

absl::Status OpenShards(const std::string& folder, const WeightFormat& format,
                        const WeightMap& map, CheckpointFiles& files) {
  std::set<std::string> names;
  for (const auto& [tensor, shard] : map) names.insert(shard);
  if (names.size() > kMaxShards) {
    return absl::DataLossError(absl::StrCat(format.index, ": names ",
                                            names.size(), " shards, at most ",
                                            kMaxShards, " are allowed"));
  }
  std::map<std::string, const std::map<std::string, TensorEntry>*> by_name;
  for (const std::string& name : names) {
    MOESCOPE_ASSIGN_OR_RETURN(WeightShard shard,
                              OpenShard(folder, format, name));
    by_name[name] = shard.tensors;
    files.shards.push_back(std::move(shard));
  }
  for (const auto& [tensor, name] : map) {
    const auto& in_shard = *by_name[name];
    const auto found = in_shard.find(tensor);
    if (found == in_shard.end()) {
      return absl::DataLossError(absl::StrCat(
          name, ": tensor ", QuoteName(tensor), " is not in it, but ",
          format.index, " says so"));
    }
    files.tensors.emplace_hint(files.tensors.end(), tensor, &found->second);
  }
  return absl::OkStatus();
}

absl::Status OpenIndexed(const std::string& folder, const WeightFormat& format,
                         CheckpointFiles& files) {
  MOESCOPE_ASSIGN_OR_RETURN(files.index_text,
                            ReadText(folder, format.index, kMaxIndexBytes));
  files.index_name = format.index;
  const absl::StatusOr<WeightMap> map =
      ParseWeightMap(files.index_text, format.suffix);
  if (!map.ok()) return Annotate(map.status(), format.index);
  return OpenShards(folder, format, *map, files);
}

absl::Status OpenSingle(const std::string& folder, const WeightFormat& format,
                        CheckpointFiles& files) {
  MOESCOPE_ASSIGN_OR_RETURN(
      WeightShard shard, format.open(absl::StrCat(folder, "/", format.single)));
  for (const auto& [name, tensor] : *shard.tensors) {
    files.tensors.emplace_hint(files.tensors.end(), name, &tensor);
  }
  files.shards.push_back(std::move(shard));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointFiles> OpenCheckpointFiles(const std::string& folder) {
  struct stat info = {};
  if (stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return absl::NotFoundError(absl::StrCat(
        "model folder ", QuoteName(FileName(folder)), " does not exist"));
  }
  CheckpointFiles files;
  MOESCOPE_ASSIGN_OR_RETURN(files.config_text,
                            ReadText(folder, kConfigName, kMaxConfigBytes));
  for (const WeightFormat& format : kFormats) {
    if (Exists(absl::StrCat(folder, "/", format.single))) {
      MOESCOPE_RETURN_IF_ERROR(OpenSingle(folder, format, files));
      return files;
    }
    if (Exists(absl::StrCat(folder, "/", format.index))) {
      MOESCOPE_RETURN_IF_ERROR(OpenIndexed(folder, format, files));
      return files;
    }
  }
  std::vector<std::string> names;
  for (const WeightFormat& format : kFormats) {
    names.emplace_back(format.single);
    names.emplace_back(format.index);
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the model folder has none of ", absl::StrJoin(names, ", ")));
}

}  // namespace moescope::model::internal
