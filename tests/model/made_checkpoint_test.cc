// What tests/testdata/make_checkpoint writes is what the families read.

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/model/checkpoint.h"
#include "tests/model/make_checkpoint.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

std::string BytesOf(const Checkpoint& checkpoint, const std::string& name) {
  const TensorEntry* tensor = checkpoint.FindTensor(name);
  if (tensor == nullptr) return "no tensor " + name;
  return {reinterpret_cast<const char*>(tensor->data),
          static_cast<std::size_t>(tensor->size_bytes)};
}

class MadeCheckpointTest : public ::testing::TestWithParam<std::string> {};

TEST_P(MadeCheckpointTest, OpensAsItsFamily) {
  const ScratchFolder scratch;
  ASSERT_EQ(
      MakeCheckpoint("--family " + GetParam() + " --out " + scratch.path()), 0);

  const auto checkpoint = Checkpoint::Open(scratch.path());

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->config().family, GetParam());
  EXPECT_TRUE((*checkpoint)->forward_status().ok())
      << (*checkpoint)->forward_status();
  EXPECT_EQ((*checkpoint)->dtype(), "BF16");
}

INSTANTIATE_TEST_SUITE_P(Families, MadeCheckpointTest,
                         ::testing::ValuesIn(FamilyNames()),
                         [](const auto& family) { return family.param; });

TEST(MakeCheckpointTest, HasTheDimensionsAskedFor) {
  const ScratchFolder scratch;
  ASSERT_EQ(
      MakeCheckpoint("--family mixtral --layers 3 --experts 5 --hidden 48 "
                     "--expert-width 20 --top-k 3 --dtype f16 --out " +
                     scratch.path()),
      0);

  const auto checkpoint = Checkpoint::Open(scratch.path());

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelConfig& config = (*checkpoint)->config();
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.num_experts, 5);
  EXPECT_EQ(config.width, 48);
  EXPECT_EQ(config.expert_width, 20);
  EXPECT_EQ(config.router.experts_per_token, 3);
  EXPECT_EQ((*checkpoint)->dtype(), "F16");
}

TEST(MakeCheckpointTest, HasTheSameValuesInShardsAsInOneFile) {
  const ScratchFolder scratch;
  const std::string arguments = "--family mixtral --seed 7 --out ";
  ASSERT_EQ(MakeCheckpoint(arguments + scratch / "whole"), 0);
  ASSERT_EQ(MakeCheckpoint(arguments + scratch / "cut --shard-bytes 20000"),
            0);

  const auto whole = Checkpoint::Open(scratch / "whole");
  const auto cut = Checkpoint::Open(scratch / "cut");

  ASSERT_TRUE(whole.ok()) << whole.status();
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_FALSE(std::filesystem::exists(scratch / "cut/model.safetensors"));
  const std::string name =
      "model.layers.1.block_sparse_moe.experts.6.w2.weight";
  EXPECT_EQ(BytesOf(**whole, name).size(), 32U * 24U * 2U);
  EXPECT_EQ(BytesOf(**whole, name), BytesOf(**cut, name));
}

TEST(MakeCheckpointTest, WritesExpertsInOneTensorWhenAsked) {
  const ScratchFolder scratch;
  ASSERT_EQ(
      MakeCheckpoint("--family mixtral --fused --out " + scratch.path()), 0);

  const auto checkpoint = Checkpoint::Open(scratch.path());

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_NE((*checkpoint)->FindTensor("model.layers.0.mlp.experts.gate_up_proj"),
            nullptr);
}

TEST(MakeCheckpointTest, RefusesAFormThatTheFamilyDoesNotHave) {
  const ScratchFolder scratch;

  EXPECT_EQ(MakeCheckpoint("--family mistral --fused --out " + scratch / "a"),
            2);
  EXPECT_EQ(
      MakeCheckpoint("--family mixtral --dtype fp8 --out " + scratch / "b"), 2);
}

}  // namespace
}  // namespace moescope::model
