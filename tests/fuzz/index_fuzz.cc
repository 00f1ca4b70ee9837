// A model.safetensors.index.json beside two good shards.
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "server/model/checkpoint_files_internal.h"
#include "tests/fuzz/expect.h"

namespace {

// One tensor "a" or "b" of two bytes.
std::string Shard(const char* name) {
  const std::string header =
      std::string("{\"") + name +
      R"(":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  return std::string(1, static_cast<char>(header.size())) +
         std::string(7, '\0') + header + "xy";
}

// A folder of this process, filled but for the index and removed at its end.
class ModelFolder {
 public:
  ModelFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "moescope_index_XXXXXX")
            .string();
    moescope::fuzz::Expect(mkdtemp(pattern.data()) != nullptr, "mkdtemp works");
    path_ = pattern;
    Write("config.json", "{}");
    Write("one.safetensors", Shard("a"));
    Write("two.safetensors", Shard("b"));
  }
  ~ModelFolder() { std::filesystem::remove_all(path_); }

  void Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << bytes;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data,
                                      std::size_t size) {
  static const ModelFolder folder;
  folder.Write("model.safetensors.index.json",
               {reinterpret_cast<const char*>(data), size});
  const auto files =
      moescope::model::internal::OpenCheckpointFiles(folder.path());
  if (!files.ok()) {
    moescope::fuzz::ExpectRefusal(files.status(),
                                  {absl::StatusCode::kDataLoss,
                                   absl::StatusCode::kFailedPrecondition});
    return 0;
  }
  moescope::fuzz::Expect(!files->shards.empty() && files->shards.size() <= 2 &&
                             !files->tensors.empty() &&
                             files->tensors.size() <= 2,
                         "only what is there is found");
  return 0;
}
