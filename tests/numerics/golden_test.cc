#include "tests/numerics/golden_file.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/numerics/activation_accumulator.h"
#include "moescope/numerics/cosine.h"
#include "moescope/numerics/descriptive.h"
#include "moescope/numerics/effective_rank.h"
#include "moescope/numerics/gram.h"

namespace moescope::numerics {
namespace {

using ::testing::FloatNear;
using ::testing::Pointwise;

constexpr std::int64_t kExperts = 8;
constexpr std::int64_t kTokens = 24;
constexpr std::int64_t kWidth = 28;
constexpr std::int64_t kDepth = 40;

// The expected values are exact ones rounded to fp32, ours sums of at most
// 1120 products in fp32, whose rounding is mostly random: √1120 · 2⁻²⁴ of
// values up to a few units. Of activations, the reference made its own forward
// pass in fp64 and ours is the recorded one in fp32, which differ by about
// 1e-6 of values up to a few units.
constexpr float kTolerance = 1e-5F;

std::vector<float> Narrow(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

void ExpectNear(const std::vector<double>& actual,
                const std::vector<float>& expected) {
  EXPECT_THAT(Narrow(actual), Pointwise(FloatNear(kTolerance), expected));
}

struct Case {
  std::string projection;
  std::int64_t rows;
  std::int64_t cols;
  bool neurons_are_rows;
};

class GoldenWeightsTest : public ::testing::TestWithParam<Case> {
 protected:
  GoldenWeightsTest()
      : weights_(golden_.Read<float>(GetParam().projection)), pool_(1) {
    for (std::int64_t e = 0; e < kExperts; ++e) {
      views_.push_back({weights_.data() + e * kWidth * kDepth,
                        ElementType::kFloat32, GetParam().rows,
                        GetParam().cols, GetParam().cols});
    }
  }
  std::vector<float> Expected(const std::string& name) const {
    return golden_.Read<float>("expected." + GetParam().projection + "." +
                               name);
  }

  GoldenFile golden_;
  std::vector<float> weights_;
  std::vector<MatrixView> views_;
  ThreadPool pool_;
};
INSTANTIATE_TEST_SUITE_P(
    Projections, GoldenWeightsTest,
    ::testing::Values(Case{"gate_proj", kWidth, kDepth, true},
                      Case{"down_proj", kDepth, kWidth, false}),
    [](const auto& given) { return given.param.projection; });

TEST_P(GoldenWeightsTest, SimilarityIsTheReferences) {
  GramOptions options;
  options.mean_row = options.mean_column = true;
  const GramResult result =
      *ComputeGram(views_, options, pool_, RunContext());
  const std::vector<double>& averages = GetParam().neurons_are_rows
                                            ? result.mean_row
                                            : result.mean_column;

  ExpectNear(*CosinesFromGram(result.gram, kExperts), Expected("matrix"));
  ExpectNear(*RowCosines(averages, kExperts, kDepth),
             Expected("neuron_average"));
}

TEST_P(GoldenWeightsTest, NormsAreTheReferences) {
  GramOptions options;
  options.row_norms = options.column_norms = true;
  const GramResult result =
      *ComputeGram(views_, options, pool_, RunContext());
  const std::vector<double>& norms = GetParam().neurons_are_rows
                                         ? result.row_norms
                                         : result.column_norms;
  const std::vector<double> first(norms.begin(), norms.begin() + kWidth);
  const Moments moments = ComputeMoments(first);

  ExpectNear(norms, Expected("norms"));
  EXPECT_NEAR(moments.mean, Expected("norm_mean")[0], kTolerance);
  EXPECT_NEAR(moments.std, Expected("norm_std")[0], kTolerance);
  EXPECT_NEAR(moments.min, Expected("norm_min")[0], kTolerance);
  EXPECT_NEAR(moments.max, Expected("norm_max")[0], kTolerance);
  std::vector<float> quantiles = Expected("norm_quantiles");
  quantiles.resize(7);
  ExpectNear(*Quantiles(first, {0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99}),
             quantiles);
}

TEST_P(GoldenWeightsTest, SpectrumIsTheReferences) {
  std::vector<double> ranks;
  std::vector<double> frobenius;
  for (const MatrixView& view : views_) {
    const Spectrum spectrum = *ComputeSpectrum(view, pool_, RunContext());
    ranks.push_back(spectrum.effective_rank);
    frobenius.push_back(spectrum.frobenius);
  }

  ExpectNear(ranks, Expected("effective_rank"));
  ExpectNear(frobenius, Expected("frobenius"));
}

TEST(GoldenRouterTest, CosinesAreTheReferences) {
  const GoldenFile golden;
  const std::vector<float> router = golden.Read<float>("router");

  ExpectNear(*RowCosines({router.data(), ElementType::kFloat32, kExperts,
                          kDepth, kDepth}),
             golden.Read<float>("expected.router"));
}

class GoldenActivationTest : public ::testing::Test {
 protected:
  // Three blocks of eight tokens for each expert.
  GoldenActivationTest()
      : activations_(golden_.Read<float>("activations")),
        ids_(golden_.Read<std::int64_t>("topk_ids")) {
    ActivationOptions options;
    options.num_experts = kExperts;
    options.num_neurons = kWidth;
    options.thresholds = {0.001, 0.01, 0.1};
    for (int i = 0; i < 65; ++i) {
      options.histogram_edges.push_back(-0.5 + i * 0.0625);
    }
    options.top_tokens = 2;
    const auto accumulator = *ActivationAccumulator::Create(options);
    for (std::int64_t token = 0; token < kTokens; token += 8) {
      for (std::int64_t e = 0; e < kExperts; ++e) {
        std::vector<std::uint8_t> routed;
        for (std::int64_t t = token; t < token + 8; ++t) {
          const auto at = static_cast<std::size_t>(2 * t);
          routed.push_back(ids_[at] == e || ids_[at + 1] == e ? 1 : 0);
        }
        ActivationBlock block;
        block.expert = e;
        block.first_token = token;
        block.values = activations_.data() + (e * kTokens + token) * kWidth;
        block.rows = 8;
        block.row_stride = kWidth;
        block.routed = routed;
        EXPECT_TRUE(accumulator->Add(block).ok());
      }
    }
    statistics_ = accumulator->Finish();
  }
  template <typename T = float>
  std::vector<T> Expected(const std::string& name) const {
    return golden_.Read<T>("expected.activation." + name);
  }
  void ExpectMoments(const NeuronMoments& actual, const std::string& prefix) {
    ExpectNear(actual.frequency, Expected(prefix + ".frequency"));
    ExpectNear(actual.mean, Expected(prefix + ".mean"));
    ExpectNear(actual.mean_abs, Expected(prefix + ".mean_abs"));
    ExpectNear(actual.max, Expected(prefix + ".max"));
    ExpectNear(actual.second_moment, Expected(prefix + ".second_moment"));
  }

  GoldenFile golden_;
  std::vector<float> activations_;
  std::vector<std::int64_t> ids_;
  ActivationStatistics statistics_;
};

TEST_F(GoldenActivationTest, FractionsAreTheReferences) {
  ExpectNear(statistics_.fraction, Expected("fraction"));
  ExpectNear(statistics_.fraction_routed, Expected("fraction_routed"));
  ExpectNear(statistics_.expert_fraction, Expected("expert_fraction"));
  ExpectNear(statistics_.expert_fraction_routed,
             Expected("expert_fraction_routed"));
  EXPECT_EQ(statistics_.routed_tokens, Expected<std::int64_t>("routed_tokens"));
  EXPECT_EQ(statistics_.near_threshold, 0);
}

TEST_F(GoldenActivationTest, MomentsAreTheReferences) {
  ExpectMoments(statistics_.neuron, "neuron");
  ExpectMoments(statistics_.neuron_routed, "neuron_routed");
}

TEST_F(GoldenActivationTest, HistogramAndTopTokensAreTheReferences) {
  EXPECT_EQ(statistics_.histogram, Expected<std::int64_t>("histogram"));
  EXPECT_EQ(statistics_.top_tokens,
            Expected<std::int64_t>("neuron.top_tokens"));
  EXPECT_THAT(statistics_.top_values,
              Pointwise(FloatNear(kTolerance), Expected("neuron.top_values")));
}

}  // namespace
}  // namespace moescope::numerics
