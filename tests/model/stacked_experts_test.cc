#include "server/model/families/stacked_experts_internal.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/numerics/widen_rows.h"
#include "server/model/families/family_internal.h"
#include "tests/model/safetensors_bytes.h"

namespace moescope::model::internal {
namespace {

using numerics::MatrixView;
using ::testing::HasSubstr;

std::string Fixture(const std::string& name, const std::string& file) {
  return MOESCOPE_SOURCE_DIR "/tests/testdata/fixtures/" + name + "/" + file;
}

// The tensors of a file by name, as a checkpoint has them.
struct Tensors {
  explicit Tensors(const std::string& path)
      : file(*SafetensorsFile::Open(path)) {
    for (const auto& [name, tensor] : file->tensors()) map[name] = &tensor;
  }
  std::vector<float> Values(const std::string& name) const {
    const TensorEntry& tensor = *map.at(name);
    std::vector<float> values(
        static_cast<std::size_t>(tensor.size_bytes) / sizeof(float));
    std::memcpy(values.data(), tensor.data, values.size() * sizeof(float));
    return values;
  }
  std::shared_ptr<const SafetensorsFile> file;
  TensorMap map;
};

std::vector<double> Widen(const MatrixView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.size()));
  numerics::WidenRows(view, 0, view.rows, values.data());
  return {values.begin(), values.end()};
}

// weight x + bias in fp64.
std::vector<double> Apply(const MatrixView& weight,
                          const std::vector<double>& x,
                          const std::vector<double>& bias) {
  const std::vector<double> w = Widen(weight);
  std::vector<double> y;
  for (std::int64_t r = 0; r < weight.rows; ++r) {
    double sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(r)];
    for (std::int64_t c = 0; c < weight.cols; ++c) {
      sum += w[static_cast<std::size_t>(r * weight.cols + c)] *
             x[static_cast<std::size_t>(c)];
    }
    y.push_back(sum);
  }
  return y;
}

double Act(double gate, double up, const ModelConfig& config) {
  if (config.activation == Activation::kSilu) {
    return gate / (1 + std::exp(-gate)) * up;
  }
  const double g = std::min(gate, config.swiglu_limit);
  const double u = std::clamp(up, -config.swiglu_limit, config.swiglu_limit);
  return g / (1 + std::exp(-config.swiglu_alpha * g)) * (u + 1);
}

std::vector<double> RunExpert(const LayerTensors& layer, std::size_t expert,
                              const std::vector<double>& x,
                              const ModelConfig& config) {
  const ExpertWeights& weights = layer.experts[expert];
  std::vector<double> gate_bias, up_bias, down_bias;
  if (!layer.expert_biases.empty()) {
    gate_bias = Widen(layer.expert_biases[expert].gate);
    up_bias = Widen(layer.expert_biases[expert].up);
    down_bias = Widen(layer.expert_biases[expert].down);
  }
  const auto gate = Apply(weights[Projection::kGate], x, gate_bias);
  const auto up = Apply(weights[Projection::kUp], x, up_bias);
  std::vector<double> hidden;
  for (std::size_t i = 0; i < gate.size(); ++i) {
    hidden.push_back(Act(gate[i], up[i], config));
  }
  return Apply(weights[Projection::kDown], hidden, down_bias);
}

// The layouts by the fixtures that have them.
class LayoutTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LayoutTest, GivesEveryExpertsReferenceOutputs) {
  const Tensors tensors(Fixture(GetParam(), "model.safetensors"));
  const Tensors reference(Fixture(GetParam(), "reference.safetensors"));
  const std::vector<float> inputs = reference.Values("layer.1.moe_input");
  const std::vector<float> expected = reference.Values("layer.1.expert_outputs");
  const auto config = ParseConfig(ReadBytes(Fixture(GetParam(), "config.json")));
  ASSERT_TRUE(config.ok()) << config.status();
  ModelTensors bound;
  bound.layers.resize(config->layers.size());

  const absl::Status status = FamilyOf(*config)->bind_blocks(
      TensorBinder(*config, tensors.map), bound);

  ASSERT_TRUE(status.ok()) << status;
  const LayerTensors& layer = bound.layers[1];
  ASSERT_EQ(static_cast<std::int64_t>(layer.experts.size()),
            config->num_experts);
  const auto width = static_cast<std::size_t>(config->width);
  const std::size_t tokens = inputs.size() / width;
  ASSERT_EQ(expected.size(), inputs.size() * layer.experts.size());
  double worst = 0;
  for (std::size_t e = 0; e < layer.experts.size(); ++e) {
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::vector<double> x(inputs.begin() + static_cast<long>(t * width),
                                  inputs.begin() +
                                      static_cast<long>((t + 1) * width));
      const std::vector<double> y = RunExpert(layer, e, x, *config);
      for (std::size_t d = 0; d < width; ++d) {
        const double want = static_cast<double>(
            expected[(e * tokens + t) * width + d]);
        worst = std::max(worst, std::abs(y[d] - want) /
                                    (2e-5 + 1e-4 * std::abs(want)));
      }
    }
  }
  // In units of the fixtures' tolerance: rtol 1e-4, atol 2e-5.
  EXPECT_LT(worst, 1.0);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, LayoutTest,
                         ::testing::Values("deepseek_v3_fp8", "gpt_oss_mxfp4",
                                           "gpt_oss", "llama4_text", "dbrx",
                                           "jetmoe"));

// Tensors made here, zeros throughout.
class MadeTensors {
 public:
  TensorEntry& Add(const std::string& name, TensorDtype dtype,
                   std::vector<std::int64_t> shape) {
    auto entry = std::make_unique<TensorEntry>();
    entry->name = name;
    entry->dtype = dtype;
    entry->size_bytes = DtypeSize(dtype);
    for (const std::int64_t extent : shape) entry->size_bytes *= extent;
    entry->shape = std::move(shape);
    memory_.emplace_back(static_cast<std::size_t>(entry->size_bytes));
    entry->data = memory_.back().data();
    map_[name] = entry.get();
    entries_.push_back(std::move(entry));
    return *entries_.back();
  }
  const TensorMap& map() const { return map_; }

 private:
  std::vector<std::vector<std::byte>> memory_;
  std::vector<std::unique_ptr<TensorEntry>> entries_;
  TensorMap map_;
};

ModelConfig Float8Config() {
  ModelConfig config;
  config.family = "test";
  config.quantisation = Quantisation::kFloat8Blocks;
  config.scale_block_rows = 16;
  config.scale_block_cols = 32;
  return config;
}

TEST(Float8Test, BindsRaggedBlocks) {
  MadeTensors tensors;
  const TensorEntry& weight =
      tensors.Add("a.weight", TensorDtype::kF8E4M3, {40, 70});
  const TensorEntry& scales =
      tensors.Add("a.weight_scale_inv", TensorDtype::kBF16, {3, 3});
  const ModelConfig config = Float8Config();

  const auto view =
      TensorBinder(config, tensors.map()).RequireMatrix("a.weight", 40, 70);

  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->data, weight.data);
  EXPECT_EQ(view->scales.data, scales.data);
  EXPECT_EQ(view->scales.type, numerics::ScaleType::kBFloat16);
  EXPECT_EQ(view->scales.block_rows, 16);
  EXPECT_EQ(view->scales.block_cols, 32);
  EXPECT_EQ(view->scales.row_stride, 3);
  EXPECT_TRUE(numerics::CheckView("view", *view).ok());
  EXPECT_EQ(numerics::StoredBytes(*view), 40 * 70 + 9 * 2);
}

TEST(Float8Test, RefusesAMissingScaleTensor) {
  MadeTensors tensors;
  tensors.Add("a.weight", TensorDtype::kF8E4M3, {40, 70});
  const ModelConfig config = Float8Config();

  const auto view =
      TensorBinder(config, tensors.map()).RequireMatrix("a.weight", 40, 70);

  EXPECT_EQ(view.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(view.status().message(),
            "tensor \"a.weight_scale_inv\" of family test is missing");
}

TEST(Float8Test, RefusesScalesOfAnotherShape) {
  MadeTensors tensors;
  tensors.Add("a.weight", TensorDtype::kF8E4M3, {40, 70});
  tensors.Add("a.weight_scale_inv", TensorDtype::kF32, {2, 3});
  const ModelConfig config = Float8Config();

  const auto view =
      TensorBinder(config, tensors.map()).RequireMatrix("a.weight", 40, 70);

  EXPECT_EQ(view.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(view.status().message(),
            "tensor \"a.weight_scale_inv\": shape is [2, 3], config.json "
            "implies [3, 3]");
}

TEST(Float8Test, RefusesScalesOfAnotherType) {
  MadeTensors tensors;
  tensors.Add("a.weight", TensorDtype::kF8E4M3, {40, 70});
  tensors.Add("a.weight_scale_inv", TensorDtype::kF16, {3, 3});
  const ModelConfig config = Float8Config();

  const auto view =
      TensorBinder(config, tensors.map()).RequireMatrix("a.weight", 40, 70);

  EXPECT_EQ(view.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(view.status().message()),
              HasSubstr("\"a.weight_scale_inv\": dtype F16"));
}

TEST(Float8Test, RefusesCodesOfWhichTheConfigSaysNothing) {
  MadeTensors tensors;
  tensors.Add("a.weight", TensorDtype::kF8E4M3, {40, 70});
  const ModelConfig config;

  const auto view =
      TensorBinder(config, tensors.map()).RequireMatrix("a.weight", 40, 70);

  EXPECT_EQ(view.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(view.status().message()),
              HasSubstr("dtype F8_E4M3 is not supported for weights without "
                        "quantization_config.quant_method \"fp8\""));
}

ModelConfig SmallMoe(std::int64_t width) {
  ModelConfig config;
  config.family = "test";
  config.num_experts = 2;
  config.width = width;
  config.expert_width = 32;
  return config;
}

TEST(Mxfp4Test, BindsGateAndUpByTurns) {
  MadeTensors tensors;
  const TensorEntry& blocks =
      tensors.Add("gu_blocks", TensorDtype::kU8, {2, 64, 2, 16});
  const TensorEntry& scales =
      tensors.Add("gu_scales", TensorDtype::kU8, {2, 64, 2});
  tensors.Add("d_blocks", TensorDtype::kU8, {2, 64, 1, 16});
  tensors.Add("d_scales", TensorDtype::kU8, {2, 64, 1});
  const ModelConfig config = SmallMoe(64);

  const auto experts =
      BindMxfp4Experts(TensorBinder(config, tensors.map()), "gu", "d");

  ASSERT_TRUE(experts.ok()) << experts.status();
  const MatrixView& up = (*experts)[1][Projection::kUp];
  EXPECT_EQ(up.data, blocks.data + (64 + 1) * 32);
  EXPECT_EQ(up.scales.data, scales.data + (64 + 1) * 2);
  EXPECT_EQ(up.row_stride, 2 * 64);
  EXPECT_EQ(up.scales.row_stride, 4);
  EXPECT_EQ((*experts)[0][Projection::kDown].rows, 64);
  EXPECT_EQ((*experts)[0][Projection::kDown].cols, 32);
}

TEST(Mxfp4Test, RefusesScalesOfAnotherShape) {
  MadeTensors tensors;
  tensors.Add("gu_blocks", TensorDtype::kU8, {2, 64, 2, 16});
  tensors.Add("gu_scales", TensorDtype::kU8, {2, 64, 1});
  const ModelConfig config = SmallMoe(64);

  const auto experts =
      BindMxfp4Experts(TensorBinder(config, tensors.map()), "gu", "d");

  EXPECT_EQ(experts.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(experts.status().message(),
            "tensor \"gu_scales\": shape is [2, 64, 1], config.json implies "
            "[2, 64, 2]");
}

TEST(Mxfp4Test, RefusesOtherTypes) {
  MadeTensors tensors;
  tensors.Add("gu_blocks", TensorDtype::kI8, {2, 64, 2, 16});
  const ModelConfig config = SmallMoe(64);

  const auto experts =
      BindMxfp4Experts(TensorBinder(config, tensors.map()), "gu", "d");

  EXPECT_EQ(experts.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(experts.status().message(),
            "tensor \"gu_blocks\": dtype I8 is not supported for packed "
            "weights (U8 is)");
}

TEST(Mxfp4Test, RefusesRowsOfNoWholeBlocks) {
  MadeTensors tensors;
  const ModelConfig config = SmallMoe(40);

  const auto experts =
      BindMxfp4Experts(TensorBinder(config, tensors.map()), "gu", "d");

  EXPECT_EQ(experts.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(experts.status().message()),
              HasSubstr("rows of 40 values are no whole blocks of 32"));
}

TEST(StackTest, RefusesAnotherShape) {
  MadeTensors tensors;
  tensors.Add("gu", TensorDtype::kBF16, {2, 64, 40});
  const ModelConfig config = SmallMoe(40);

  const auto experts =
      BindTransposedExperts(TensorBinder(config, tensors.map()), "gu", "d",
                            GateUpOrder::kHalves);

  EXPECT_EQ(experts.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(experts.status().message(),
            "tensor \"gu\": shape is [2, 64, 40], config.json implies "
            "[2, 40, 64]");
}

TEST(StackTest, RefusesALayoutBeyondItsTensor) {
  MadeTensors tensors;
  tensors.Add("x", TensorDtype::kBF16, {2, 3, 4});
  const ModelConfig config = SmallMoe(4);

  const auto views = BindStack(TensorBinder(config, tensors.map()),
                               {"x", {2, 3, 4}, 1, 12, 4}, 3, 4);

  EXPECT_EQ(views.status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace moescope::model::internal
