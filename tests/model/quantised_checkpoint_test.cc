#include <cstdint>
#include <cstring>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

#include "moescope/model/checkpoint.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

using nlohmann::json;

std::string Testdata(const std::string& name) {
  return MOESCOPE_SOURCE_DIR "/tests/testdata/" + name;
}

// fixtures/mixtral with the first expert's matrices as codes and scales.
std::string QuantisedMixtral(const ScratchFolder& scratch) {
  const std::string source = Testdata("fixtures/mixtral/");
  json config = json::parse(ReadBytes(source + "config.json"));
  config["quantization_config"] = {{"quant_method", "fp8"},
                                   {"weight_block_size", {16, 32}}};
  scratch.Write("config.json", config.dump());
  const std::string file = ReadBytes(source + "model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  json header = json::parse(file.substr(8, length));
  std::string data = file.substr(8 + length);
  for (const char* name : {"w1", "w3", "w2"}) {
    const std::string weight = absl::StrCat(
        "model.layers.0.block_sparse_moe.experts.0.", name, ".weight");
    // Four times as many bytes as codes: the rest becomes a tensor of its own.
    json& entry = header[weight];
    const auto begin = entry["data_offsets"][0].get<std::int64_t>();
    const auto end = entry["data_offsets"][1].get<std::int64_t>();
    const std::int64_t codes = begin + 28 * 40;
    entry["dtype"] = "F8_E4M3";
    entry["data_offsets"] = {begin, codes};
    const std::int64_t blocks = name[1] == '2' ? 3 * 1 : 2 * 2;
    header[weight + "_scale_inv"] = {
        {"dtype", "F32"},
        {"shape", name[1] == '2' ? json({3, 1}) : json({2, 2})},
        {"data_offsets", {codes, codes + 4 * blocks}}};
    header[weight + ".rest"] = {
        {"dtype", "U8"},
        {"shape", {end - codes - 4 * blocks}},
        {"data_offsets", {codes + 4 * blocks, end}}};
  }
  scratch.Write("model.safetensors", SafetensorsBytes(header.dump(), data));
  return scratch.path();
}

TEST(QuantisedCheckpointTest, BindsFloat8WithItsScalesAndSaysSo) {
  const ScratchFolder scratch;
  const auto checkpoint = Checkpoint::Open(QuantisedMixtral(scratch));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  const auto expert = (*checkpoint)->Expert(0, 0);

  ASSERT_TRUE(expert.ok()) << expert.status();
  const numerics::MatrixView& down = (*expert)[Projection::kDown];
  EXPECT_EQ(down.type, numerics::ElementType::kFloat8E4M3);
  EXPECT_EQ(down.scales.block_rows, 16);
  EXPECT_EQ(down.scales.block_cols, 32);
  EXPECT_EQ(numerics::StoredBytes(down), 40 * 28 + 3 * 4);
  EXPECT_EQ((*checkpoint)->dtype(), "F8_E4M3 blocks 16×32 + F32");
}

}  // namespace
}  // namespace moescope::model
