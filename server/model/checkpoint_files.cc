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

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"
#include "server/model/bounded_json_internal.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

constexpr std::int64_t kMaxConfigBytes = std::int64_t{16} << 20;
constexpr std::int64_t kMaxIndexBytes = std::int64_t{64} << 20;
constexpr std::size_t kMaxShards = 4096;
constexpr const char* kConfigName = "config.json";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";

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

bool IsPlainShardName(const std::string& name) {
  return absl::EndsWith(name, ".safetensors") && name.front() != '.' &&
         name.size() <= 255 &&
         name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

absl::StatusOr<WeightMap> ParseWeightMap(const std::string& text) {
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
    if (!IsPlainShardName(shard)) {
      return absl::DataLossError(absl::StrCat(
          "weight_map: tensor ", QuoteName(item.key()), " lies in ",
          QuoteName(shard), ", which is no plain *.safetensors file name"));
    }
    map.emplace_hint(map.end(), item.key(), std::move(shard));
  }
  return map;
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> OpenShard(
    const std::string& folder, const std::string& name) {
  absl::StatusOr<std::shared_ptr<const SafetensorsFile>> shard =
      SafetensorsFile::Open(absl::StrCat(folder, "/", name));
  if (absl::IsNotFound(shard.status())) {
    return absl::FailedPreconditionError(absl::StrCat(
        kIndexName, ": shard ", QuoteName(name), " is missing"));
  }
  return shard;
}

absl::Status OpenShards(const std::string& folder, const WeightMap& map,
                        CheckpointFiles& files) {
  std::set<std::string> names;
  for (const auto& [tensor, shard] : map) names.insert(shard);
  if (names.size() > kMaxShards) {
    return absl::DataLossError(absl::StrCat(kIndexName, ": names ",
                                            names.size(), " shards, at most ",
                                            kMaxShards, " are allowed"));
  }
  std::map<std::string, const SafetensorsFile*> by_name;
  for (const std::string& name : names) {
    MOESCOPE_ASSIGN_OR_RETURN(std::shared_ptr<const SafetensorsFile> shard,
                              OpenShard(folder, name));
    by_name[name] = shard.get();
    files.shards.push_back(std::move(shard));
  }
  for (const auto& [tensor, name] : map) {
    const auto& in_shard = by_name[name]->tensors();
    const auto found = in_shard.find(tensor);
    if (found == in_shard.end()) {
      return absl::DataLossError(absl::StrCat(
          name, ": tensor ", QuoteName(tensor), " is not in it, but ",
          kIndexName, " says so"));
    }
    files.tensors.emplace_hint(files.tensors.end(), tensor, &found->second);
  }
  return absl::OkStatus();
}

absl::Status OpenSingle(const std::string& folder, CheckpointFiles& files) {
  MOESCOPE_ASSIGN_OR_RETURN(
      std::shared_ptr<const SafetensorsFile> file,
      SafetensorsFile::Open(absl::StrCat(folder, "/", kSingleName)));
  for (const auto& [name, tensor] : file->tensors()) {
    files.tensors.emplace_hint(files.tensors.end(), name, &tensor);
  }
  files.shards.push_back(std::move(file));
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
  if (Exists(absl::StrCat(folder, "/", kIndexName))) {
    MOESCOPE_ASSIGN_OR_RETURN(files.index_text,
                              ReadText(folder, kIndexName, kMaxIndexBytes));
    absl::StatusOr<WeightMap> map = ParseWeightMap(files.index_text);
    if (!map.ok()) return Annotate(map.status(), kIndexName);
    MOESCOPE_RETURN_IF_ERROR(OpenShards(folder, *map, files));
    return files;
  }
  const absl::Status single = OpenSingle(folder, files);
  if (absl::IsNotFound(single)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the model folder has neither ", kIndexName, " nor ",
                     kSingleName));
  }
  MOESCOPE_RETURN_IF_ERROR(single);
  return files;
}

}  // namespace moescope::model::internal
