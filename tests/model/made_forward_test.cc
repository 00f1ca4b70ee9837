// What tests/testdata/make_checkpoint writes can be computed with, by the rules of
// its family.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/model/forward_testing.h"
#include "tests/model/make_checkpoint.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

using Values = std::map<std::string, at::Tensor>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The arguments of everything that the tool can write: each family as it comes,
// and the other forms that some have.
std::vector<std::string> Forms() {
  std::vector<std::string> forms = FamilyNames();
  forms.insert(forms.end(), {"llama4_text", "deepseek_v3 --dtype fp8",
                             "gpt_oss --dtype mxfp4", "mixtral --fused",
                             "qwen2_moe --fused", "qwen3_moe --fused",
                             "olmoe --fused", "mixtral --dtype f16",
                             "mixtral --dtype f32"});
  return forms;
}

std::string Name(const testing::TestParamInfo<std::string>& form) {
  std::string name = form.param;
  std::replace_if(
      name.begin(), name.end(),
      [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

// "" when all values are finite and those of no tensor are all alike.
std::string FirstUnlikely(const Values& values) {
  for (const auto& [name, value] : values) {
    if (!at::isfinite(value).all().item<bool>()) return name + ": not finite";
    if (value.is_floating_point() &&
        value.min().item<float>() == value.max().item<float>()) {
      return name + ": one value throughout";
    }
  }
  return "";
}

at::Tensor Sorted(const at::Tensor& values) {
  return std::get<0>(values.sort(/*dim=*/1));
}

// One pick of sparsemixer among the logits `left`; [T, 1] each.
struct Pick {
  at::Tensor id;
  at::Tensor weight;
};
Pick PickOf(const at::Tensor& logits, const at::Tensor& left, double jitter) {
  const auto [top, id] = left.max(1, /*keepdim=*/true);
  const at::Tensor far =
      ((top - logits) / logits.abs().maximum(top)).gt(2 * jitter);
  return {id, at::softmax(left.masked_fill(far, -kInfinity), 1).gather(1, id)};
}

// [T, K] weights of phimoe's choice, rising.
at::Tensor SparseMixerWeights(const at::Tensor& logits, double jitter) {
  const Pick first = PickOf(logits, logits, jitter);
  const Pick second = PickOf(
      logits, logits.scatter(1, first.id, -kInfinity), jitter);
  return Sorted(at::cat({first.weight, second.weight}, 1));
}

// [T, K] what each publisher's code makes of `logits` [T, E] for the experts
// `ids`, in fp64.
at::Tensor WeightsOf(const ModelConfig& config, const at::Tensor& logits,
                     const at::Tensor& ids) {
  const std::string& family = config.family;
  const at::Tensor chosen = logits.gather(1, ids);
  if (family == "llama4") return at::sigmoid(chosen);
  if (family == "deepseek_v3") {
    const at::Tensor scores = at::sigmoid(chosen);
    return scores / scores.sum(1, true) * config.router.scaling;
  }
  const bool over_all = family == "deepseek" || family == "deepseek_v2" ||
                        family == "olmoe" || family == "qwen2_moe" ||
                        family == "grok1";
  return over_all ? at::softmax(logits, 1).gather(1, ids) *
                        config.router.scaling
                  : at::softmax(chosen, 1);
}

// "" when `ids` [T, K] are the largest of what experts are compared by.
std::string WrongChoice(const Values& shown, const std::string& layer,
                        const at::Tensor& ids) {
  const auto choice = shown.find(layer + "choice");
  at::Tensor compared = choice != shown.end()
                            ? choice->second
                            : shown.at(layer + "router_logits");
  const auto mask = shown.find(layer + "group_mask");
  if (mask != shown.end()) {
    const std::int64_t size = compared.size(1) / mask->second.size(1);
    compared = compared.masked_fill(
        mask->second.repeat_interleave(size, 1).eq(0), -kInfinity);
  }
  const at::Tensor best = std::get<1>(compared.topk(ids.size(1), 1));
  return Sorted(best).equal(Sorted(ids)) ? "" : layer + ": not the largest";
}

// "" when the router of `layer` chose and weighed by its family's rule.
std::string WrongRouting(const ModelConfig& config, const Values& shown,
                         const std::string& layer) {
  const at::Tensor logits = shown.at(layer + "router_logits").to(at::kDouble);
  const at::Tensor ids = shown.at(layer + "topk_ids");
  const at::Tensor weights = shown.at(layer + "topk_weights").to(at::kDouble);
  const at::Tensor expected =
      config.family == "phimoe"
          ? SparseMixerWeights(logits, config.router.jitter)
          : Sorted(WeightsOf(config, logits, ids));
  // Some roundings of fp32 in exponentials of logits of a few units.
  if (!at::allclose(Sorted(weights), expected, 1e-5, 1e-7)) {
    return layer + ": other weights";
  }
  return WrongChoice(shown, layer, ids);
}

// "" when the routed output of `layer` is Σ weight · output of the chosen.
std::string WrongSum(const Values& shown, const std::string& layer) {
  const at::Tensor outputs =
      shown.at(layer + "expert_outputs").to(at::kDouble);  // [E, T, D]
  const at::Tensor ids = shown.at(layer + "topk_ids");     // [T, K]
  const at::Tensor weights = shown.at(layer + "topk_weights").to(at::kDouble);
  const at::Tensor terms =
      outputs.transpose(0, 1).gather(
          1, ids.unsqueeze(2).expand({ids.size(0), ids.size(1),
                                      outputs.size(2)})) *
      weights.unsqueeze(2);  // [T, K, D]
  // K products and K - 1 sums in fp32.
  const double bound = 2 * static_cast<double>(ids.size(1)) * 6e-8 *
                       terms.abs().sum(1).max().item<double>();
  const double off = (shown.at(layer + "routed_output") - terms.sum(1))
                         .abs()
                         .max()
                         .item<double>();
  return off <= bound ? "" : absl::StrCat(layer, ": off by ", off);
}

// "" when every layer's router and sum are right; else what is not.
std::string FirstWrong(const ModelConfig& config, const Values& shown) {
  std::string wrong;
  for (const std::int64_t i : config.MoeLayers()) {
    const std::string layer = absl::StrCat("layer.", i, ".");
    if (wrong.empty()) wrong = WrongRouting(config, shown, layer);
    // Llama 4's outputs are of the input without its weight.
    if (wrong.empty() && !config.router.scales_input) {
      wrong = WrongSum(shown, layer);
    }
  }
  return wrong;
}

std::shared_ptr<const Model> Made(const ScratchFolder& folder,
                                  const std::string& form) {
  EXPECT_EQ(MakeCheckpoint("--family " + form + " --out " + folder.path()), 0);
  return LoadModel(folder.path());
}

class MadeForwardTest : public testing::TestWithParam<std::string> {};

TEST_P(MadeForwardTest, AllValuesOfAPassAreFiniteAndByTheFamilysRule) {
  const ScratchFolder scratch;
  const auto model = Made(scratch, GetParam());
  ASSERT_NE(model, nullptr);

  const Values shown = RunForward(*model, MakeSequences({24, 9}, 128),
                                  RequestAll(*model), 1);

  EXPECT_EQ(shown.at("logits").sizes(), (std::vector<std::int64_t>{33, 128}));
  EXPECT_EQ(FirstUnlikely(shown), "");
  EXPECT_EQ(FirstWrong(model->checkpoint().config(), shown), "");
}

TEST_P(MadeForwardTest, APackedSequenceIsAsAlone) {
  const ScratchFolder scratch;
  const auto model = Made(scratch, GetParam());
  ASSERT_NE(model, nullptr);
  const Sequences packed = MakeSequences({24, 9}, 128);
  Sequences alone;
  alone.ids.assign(packed.ids.begin() + 24, packed.ids.end());
  alone.lengths = {9};

  const Values all = RunForward(*model, packed, RequestAll(*model), 1);

  ExpectSame(RowsOf(all, 24, 9),
             RunForward(*model, alone, RequestAll(*model), 1));
}

INSTANTIATE_TEST_SUITE_P(Forms, MadeForwardTest, testing::ValuesIn(Forms()),
                         &Name);

// Writes the checkpoint of `source` to `folder` with experts 0 and 1 of every
// layer exchanged: their tensors' names, and the rows of the routers. The header
// keeps its length.
void ExchangeTwoExperts(const ScratchFolder& source,
                        const ScratchFolder& folder) {
  const std::string path = source / "model.safetensors";
  const auto file = *SafetensorsFile::Open(path);
  std::string bytes = ReadBytes(path);
  std::uint64_t length = 0;
  std::copy_n(bytes.data(), sizeof length, reinterpret_cast<char*>(&length));
  const std::byte* first = nullptr;
  for (const auto& [name, tensor] : file->tensors()) {
    if (first == nullptr || tensor.data < first) first = tensor.data;
  }
  for (const auto& [name, tensor] : file->tensors()) {
    if (!absl::EndsWith(name, ".gate.weight")) continue;
    const auto row = tensor.size_bytes / tensor.shape[0];
    const auto begin = bytes.begin() +
                       static_cast<std::ptrdiff_t>(8 + length) +
                       (tensor.data - first);
    std::swap_ranges(begin, begin + row, begin + row);
  }
  const std::string header = absl::StrReplaceAll(
      bytes.substr(8, length),
      {{"experts.0.", "experts.1."}, {"experts.1.", "experts.0."}});
  folder.Write("model.safetensors", bytes.replace(8, length, header));
  folder.Write("config.json", ReadBytes(source / "config.json"));
}

class ExchangedExpertsTest : public testing::TestWithParam<std::string> {};

TEST_P(ExchangedExpertsTest, ChangeTheirNumbersAndNothingElse) {
  const ScratchFolder scratch;
  const auto model = Made(scratch, GetParam());
  ASSERT_NE(model, nullptr);
  const Sequences sequences = MakeSequences({24, 9}, 128);
  const Values here =
      RunForward(*model, sequences, RequestAll(*model), 1);
  const ScratchFolder exchanged;
  ExchangeTwoExperts(scratch, exchanged);

  const auto other = LoadModel(exchanged.path());
  ASSERT_NE(other, nullptr);
  const Values there = RunForward(*other, sequences, RequestAll(*other), 1);

  Values expected = here;
  for (auto& [name, value] : expected) {
    if (absl::EndsWith(name, "topk_ids")) {
      // 0 and 1, but no others, for each other.
      value = at::where(value.lt(2), 1 - value, value);
    } else if (absl::StrContains(name, ".expert_")) {
      value = at::cat({value.narrow(0, 1, 1), value.narrow(0, 0, 1),
                       value.narrow(0, 2, value.size(0) - 2)});
    } else if (absl::StrContains(name, ".router_")) {
      value = at::cat({value.narrow(1, 1, 1), value.narrow(1, 0, 1),
                       value.narrow(1, 2, value.size(1) - 2)},
                      1);
    }
  }
  // The sums of the scores' exponentials go through the experts in order.
  int compared = 0;
  EXPECT_EQ(CompareToReference(expected, there, Bound::kTrained, &compared),
            "");
  EXPECT_EQ(compared, static_cast<int>(here.size()));
  EXPECT_NE(FirstDifference(here, there), "");
}

INSTANTIATE_TEST_SUITE_P(Families, ExchangedExpertsTest,
                         testing::Values("mixtral", "deepseek", "qwen2_moe",
                                         "qwen3_moe", "olmoe", "phimoe",
                                         "grok1"),
                         &Name);

}  // namespace
}  // namespace moescope::model
