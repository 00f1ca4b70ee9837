// Both conventions for the experts of groups that a router does not keep.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "tests/model/forward_testing.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

using Values = std::map<std::string, at::Tensor>;

Values Traced(const Model& model, std::optional<bool> masked_groups_are_zero) {
  ForwardRequest request = RequestAll(model);
  request.masked_groups_are_zero = masked_groups_are_zero;
  return RunForward(
      model, MakeSequences({24, 40}, model.checkpoint().config().vocab_size),
      request, 2);
}

at::Tensor Sorted(const at::Tensor& ids) {
  return std::get<0>(ids.sort(/*dim=*/1));
}

// [T] whether the token's experts in `layer` are others.
at::Tensor Rerouted(const Values& a, const Values& b, const std::string& layer) {
  const std::string ids = layer + ".topk_ids";
  return Sorted(a.at(ids)).ne(Sorted(b.at(ids))).any(1);
}

at::Tensor RowsDiffer(const Values& a, const Values& b,
                      const std::string& name) {
  return a.at(name).ne(b.at(name)).any(1);
}

TEST(MaskedGroupsTest, TheOtherConventionReroutesTheTokensThatWereCounted) {
  const auto model = LoadTestModel("fixtures/deepseek_v3_negbias");

  const Values own = Traced(*model, std::nullopt);
  const Values zero = Traced(*model, true);

  const at::Tensor rerouted = Rerouted(own, zero, "layer.1");
  EXPECT_GT(rerouted.sum().item<std::int64_t>(), 0);
  EXPECT_TRUE(rerouted.equal(own.at("layer.1.depends_on_mask").to(at::kBool)));
  EXPECT_TRUE(rerouted.equal(zero.at("layer.1.depends_on_mask").to(at::kBool)));
  EXPECT_TRUE(
      own.at("layer.1.router_logits").equal(zero.at("layer.1.router_logits")));
  // It is the last layer: the others' logits are what they were.
  EXPECT_TRUE(rerouted.equal(RowsDiffer(own, zero, "logits")));
}

// 4 groups of 4 experts, 4 per token, weights divided by their sum, times 2.5.
TEST(MaskedGroupsTest, MaskedExpertsCompareAsZeroAndWeighTheirScore) {
  const auto model = LoadTestModel("fixtures/deepseek_v3_negbias");

  const Values zero = Traced(*model, true);

  const at::Tensor kept = zero.at("layer.1.group_mask")
                              .repeat_interleave(4, /*dim=*/1)
                              .to(at::kBool);
  const at::Tensor compared =
      at::where(kept, zero.at("layer.1.choice"), at::zeros({1}));
  const at::Tensor ids = zero.at("layer.1.topk_ids");  // [T, K]
  const at::Tensor lowest = compared.gather(1, ids).amin(1);
  const at::Tensor others = compared.scatter(1, ids, -1e30).amax(1);
  EXPECT_TRUE(lowest.ge(others).all().item<bool>());
  EXPECT_TRUE(kept.gather(1, ids).logical_not().any().item<bool>());
  const at::Tensor scores = zero.at("layer.1.router_scores").gather(1, ids);
  EXPECT_TRUE(at::allclose(zero.at("layer.1.topk_weights"),
                           scores / scores.sum(1, true) * 2.5, 1e-6, 0));
}

TEST(MaskedGroupsTest, NoSuchExpertIsChosenWhereTheyCompareAsMinusInfinity) {
  const auto model = LoadTestModel("fixtures/deepseek_v3_negbias");

  const Values lowest = Traced(*model, false);

  const at::Tensor kept =
      lowest.at("layer.1.group_mask").repeat_interleave(4, /*dim=*/1);
  EXPECT_TRUE(
      kept.gather(1, lowest.at("layer.1.topk_ids")).all().item<bool>());
  EXPECT_EQ(FirstDifference(lowest, Traced(*model, std::nullopt)), "");
}

// Scores of a softmax are positive: V2's experts of masked groups, as 0, come
// after all of the kept ones anyway.
TEST(MaskedGroupsTest, PositiveChoicesAreTheSameByBoth) {
  const auto model = LoadTestModel("fixtures/deepseek_v2");

  const Values own = Traced(*model, std::nullopt);

  EXPECT_EQ(own.at("layer.1.depends_on_mask").sum().item<std::int64_t>(), 0);
  EXPECT_EQ(FirstDifference(own, Traced(*model, true)), "");
  EXPECT_EQ(FirstDifference(own, Traced(*model, false)), "");
}

TEST(MaskedGroupsTest, AModelWithoutGroupsHasNone) {
  const auto model = LoadTestModel("fixtures/mixtral");

  EXPECT_EQ(FirstDifference(Traced(*model, std::nullopt), Traced(*model, true)), "");
}

// The deepseek_v3 fixture with the corrections of its first expert layer so low
// that every choice value there is below 0.
void WriteNegativeCorrections(const ScratchFolder& folder) {
  const std::string source = TestData("fixtures/deepseek_v3/");
  std::string bytes = ReadBytes(source + "model.safetensors");
  const auto weights =
      *SafetensorsFile::Open(source + "model.safetensors");
  const TensorEntry& correction =
      weights->tensors().at("model.layers.1.mlp.gate.e_score_correction_bias");
  ASSERT_EQ(correction.dtype, TensorDtype::kF32);
  const std::string old(reinterpret_cast<const char*>(correction.data),
                        static_cast<std::size_t>(correction.size_bytes));
  const std::size_t at = bytes.find(old);
  for (std::size_t i = 0; i < old.size(); i += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, &bytes[at + i], sizeof value);
    value -= 3;
    std::memcpy(&bytes[at + i], &value, sizeof value);
  }
  folder.Write("model.safetensors", bytes);
  folder.Write("config.json", ReadBytes(source + "config.json"));
}

TEST(MaskedGroupsTest, LaterLayersReadWhatTheChosenConventionGave) {
  const ScratchFolder folder;
  WriteNegativeCorrections(folder);
  const auto model = LoadModel(folder.path());

  const Values own = Traced(*model, std::nullopt);
  const Values zero = Traced(*model, true);

  const at::Tensor rerouted = Rerouted(own, zero, "layer.1");
  EXPECT_GT(rerouted.sum().item<std::int64_t>(), 0);
  EXPECT_TRUE(rerouted.equal(RowsDiffer(own, zero, "layer.1.output")));
  const at::Tensor later = RowsDiffer(own, zero, "layer.2.router_logits");
  EXPECT_TRUE(later.logical_or(rerouted.logical_not()).all().item<bool>());
}

}  // namespace
}  // namespace moescope::model
