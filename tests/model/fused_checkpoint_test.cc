// Checkpoints as transformers 5 writes them: the experts of a layer in the two
// tensors gate_up_proj [E, 2 F, D] and down_proj [E, D, F] under "mlp.", and
// the router of phimoe under "mlp.router".
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "moescope/model/safetensors.h"
#include "tests/model/forward_testing.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

// A tensor of float32.
struct Made {
  std::vector<std::int64_t> shape;
  std::string bytes;
};

std::string BytesOf(const TensorEntry& tensor) {
  return {reinterpret_cast<const char*>(tensor.data),
          static_cast<std::size_t>(tensor.size_bytes)};
}

std::string NewName(const std::string& name) {
  return absl::StrReplaceAll(name, {{"block_sparse_moe.gate.", "mlp.router."},
                                    {"block_sparse_moe.", "mlp."}});
}

// The tensors of `file` with those of experts joined, under the new names.
std::map<std::string, Made> Fused(const SafetensorsFile& file) {
  static const std::regex kExpert(
      R"((.*\.experts\.)(\d+)\.(w[123]|(?:gate|up|down)_proj)\.weight)");
  std::map<std::string, Made> made;
  // By their places in the fused tensors: layer's prefix, expert, gate before
  // up before down.
  std::map<std::string, std::map<int, std::map<int, const TensorEntry*>>> found;
  const std::map<std::string, int> places = {
      {"w1", 0}, {"gate_proj", 0}, {"w3", 1},
      {"up_proj", 1}, {"w2", 2}, {"down_proj", 2}};
  for (const auto& [name, tensor] : file.tensors()) {
    EXPECT_EQ(tensor.dtype, TensorDtype::kF32) << name;
    std::smatch part;
    if (std::regex_match(name, part, kExpert)) {
      found[NewName(part[1])][std::stoi(part[2])][places.at(part[3])] = &tensor;
    } else {
      made[NewName(name)] = {tensor.shape, BytesOf(tensor)};
    }
  }
  for (const auto& [prefix, experts] : found) {
    const auto count = static_cast<std::int64_t>(experts.size());
    const std::int64_t width = experts.at(0).at(0)->shape[0];
    const std::int64_t model = experts.at(0).at(0)->shape[1];
    Made& gate_up = made[prefix + "gate_up_proj"];
    gate_up.shape = {count, 2 * width, model};
    Made& down = made[prefix + "down_proj"];
    down.shape = {count, model, width};
    for (const auto& [expert, parts] : experts) {
      gate_up.bytes += BytesOf(*parts.at(0)) + BytesOf(*parts.at(1));
      down.bytes += BytesOf(*parts.at(2));
    }
  }
  return made;
}

std::string FileOf(const std::map<std::string, Made>& tensors) {
  std::vector<std::string> entries;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t begin = data.size();
    data += tensor.bytes;
    entries.push_back(absl::StrCat(
        "\"", name, R"(": {"dtype": "F32", "shape": [)",
        absl::StrJoin(tensor.shape, ", "), R"(], "data_offsets": [)", begin,
        ", ", data.size(), "]}"));
  }
  return SafetensorsBytes(absl::StrCat("{", absl::StrJoin(entries, ", "), "}"),
                          data);
}

struct Case {
  const char* fixture;
  const char* config;
  /// Of layer 1.
  const char* router;
};

class FusedCheckpointTest : public testing::TestWithParam<Case> {};

TEST_P(FusedCheckpointTest, ShowsWhatExpertsOnTheirOwnShow) {
  const std::string source = absl::StrCat("fixtures/", GetParam().fixture, "/");
  const auto weights =
      *SafetensorsFile::Open(TestData(source + "model.safetensors"));
  const ScratchFolder folder;
  folder.Write("model.safetensors", FileOf(Fused(*weights)));
  folder.Write("config.json",
               ReadBytes(TestData(source + GetParam().config)));
  const auto apart = LoadTestModel(source);

  const auto fused = LoadModel(folder.path());

  EXPECT_NE(fused->checkpoint().FindTensor(GetParam().router), nullptr);
  EXPECT_NE(fused->checkpoint().FindTensor(
                "model.layers.1.mlp.experts.gate_up_proj"),
            nullptr);
  const Sequences sequences =
      MakeSequences({11, 6}, fused->checkpoint().config().vocab_size);
  EXPECT_EQ(
      FirstDifference(RunForward(*apart, sequences, RequestAll(*apart), 2),
                      RunForward(*fused, sequences, RequestAll(*fused), 2)),
      "");
}

INSTANTIATE_TEST_SUITE_P(
    Families, FusedCheckpointTest,
    testing::Values(
        Case{"phimoe", "config_v5.json", "model.layers.1.mlp.router.weight"},
        Case{"deepseek", "config.json", "model.layers.1.mlp.gate.weight"},
        Case{"deepseek_v2", "config_v5.json", "model.layers.1.mlp.gate.weight"},
        Case{"deepseek_v3", "config_v5.json",
             "model.layers.1.mlp.gate.weight"}),
    [](const auto& row) { return std::string(row.param.fixture); });

}  // namespace
}  // namespace moescope::model
