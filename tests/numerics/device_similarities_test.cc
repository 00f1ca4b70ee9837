#include "moescope/numerics/device_similarities.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "moescope/base/error.h"
#include "server/numerics/tensor_copies_internal.h"
#include "server/numerics/tensor_cosines_internal.h"
#include "tests/numerics/assignment_testing.h"
#include "tests/numerics/matrices.h"
#include "tests/numerics/tensor_testing.h"

namespace moescope::numerics {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Blocks of neurons that no size below is a multiple of.
constexpr std::int64_t kSmallBlock = 64;

at::Tensor Room(std::int64_t size) {
  return at::empty({size, size}, at::TensorOptions()
                                     .dtype(at::kInt)
                                     .device(at::Device(TestDevice())));
}

// The costs that the device makes of `pairs`, in small blocks.
std::vector<std::int32_t> CostsOf(const std::vector<NeuronPair>& pairs) {
  ThreadPool pool(2);
  const at::Tensor costs = Room(pairs[0].left.rows);
  EXPECT_EQ(internal::FillTensorCosines(pairs, kSmallBlock, pool, RunContext(),
                                        costs),
            absl::OkStatus());
  return internal::ToHost<std::int32_t>(costs);
}

// The cosine of two neurons in fp64; of a zero one 0.
double SlowCosine(const double* x, const double* y, std::int64_t depth) {
  const double squares = std::inner_product(x, x + depth, x, 0.0) *
                         std::inner_product(y, y + depth, y, 0.0);
  return squares == 0 ? 0.0
                      : std::inner_product(x, x + depth, y, 0.0) /
                            std::sqrt(squares);
}

// Largest difference from SlowCosine, `left` and `right` being rows.
double WorstCosine(const std::vector<std::int32_t>& costs,
                   const std::vector<double>& left,
                   const std::vector<double>& right, std::int64_t size) {
  const auto depth = static_cast<std::int64_t>(left.size()) / size;
  double worst = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = 0; j < size; ++j) {
      const double found =
          -static_cast<double>(costs[static_cast<std::size_t>(i * size + j)]) /
          kSimilarityScale;
      worst = std::max(worst, std::fabs(found - SlowCosine(
                                                    left.data() + i * depth,
                                                    right.data() + j * depth,
                                                    depth)));
    }
  }
  return worst;
}

// Sums of n products of numbers of length 1 err by no more than n eps times
// the sum of their magnitudes, which is at most 1; rounding errors partly
// cancel, as √n. Fixed point adds 2^-29.
double Allowed(std::int64_t depth) {
  return 0x1p-23 * std::sqrt(static_cast<double>(depth));
}

class DeviceCosinesTest : public ::testing::TestWithParam<ElementType> {};
INSTANTIATE_TEST_SUITE_P(Types, DeviceCosinesTest,
                         ::testing::Values(ElementType::kBFloat16,
                                           ElementType::kFloat16,
                                           ElementType::kFloat32));

// At odd addresses, with gaps between rows.
TEST_P(DeviceCosinesTest, AgreeWithFp64WhereNeuronsAreRows) {
  constexpr std::int64_t kNeurons = 150;
  constexpr std::int64_t kDepth = 311;
  Matrices matrices(2, kNeurons, kDepth, GetParam(), 3, 1);
  matrices.FillRandom(1);

  const auto costs = CostsOf({{matrices.views()[0], matrices.views()[1]}});

  EXPECT_LE(WorstCosine(costs, matrices.values()[0], matrices.values()[1],
                        kNeurons),
            Allowed(kDepth));
}

TEST_P(DeviceCosinesTest, AreTheSameWhereNeuronsAreColumns) {
  constexpr std::int64_t kNeurons = 150;
  constexpr std::int64_t kDepth = 311;
  Matrices rows(2, kNeurons, kDepth, GetParam());
  rows.FillRandom(1);
  Matrices columns(2, kDepth, kNeurons, GetParam(), 3, 1);
  for (std::int64_t m = 0; m < 2; ++m) {
    for (std::int64_t i = 0; i < kNeurons * kDepth; ++i) {
      columns.Set(m, i % kDepth, i / kDepth,
                  static_cast<float>(rows.values()[static_cast<std::size_t>(
                      m)][static_cast<std::size_t>(i)]));
    }
  }

  EXPECT_EQ(CostsOf({{Transposed(columns.views()[0]),
                      Transposed(columns.views()[1])}}),
            CostsOf({{rows.views()[0], rows.views()[1]}}));
}

TEST_P(DeviceCosinesTest, AreThoseOfTheHost) {
  constexpr std::int64_t kNeurons = 130;
  constexpr std::int64_t kDepth = 90;
  Matrices matrices(6, kNeurons, kDepth, GetParam());
  matrices.FillRandom(2);
  const std::vector<MatrixView> views = matrices.views();
  const std::vector<NeuronPair> joint = {
      {views[0], views[1]}, {views[2], views[3]}, {views[4], views[5]}};
  ThreadPool pool(2);
  SimilarityMatrix host;
  ASSERT_TRUE(FillCosines(joint, pool, RunContext(), host).ok());

  const std::vector<std::int32_t> costs = CostsOf(joint);

  std::int64_t worst = 0;
  for (std::int64_t e = 0; e < kNeurons * kNeurons; ++e) {
    worst = std::max(worst, std::abs(std::int64_t{host.costs()[e]} -
                                     costs[static_cast<std::size_t>(e)]));
  }
  // Of three pairs and both sides, in fixed point.
  EXPECT_LE(static_cast<double>(worst) / kSimilarityScale,
            6 * Allowed(kDepth));
}

MatrixView View(const std::vector<float>& values, std::int64_t rows,
                std::int64_t cols) {
  return {values.data(), ElementType::kFloat32, rows, cols, cols};
}

absl::StatusOr<Assignment> Match(const std::vector<NeuronPair>& pairs,
                                 DeviceSimilarities& memory) {
  ThreadPool pool(2);
  const absl::Status filled = FillCosines(pairs, pool, RunContext(), memory);
  return filled.ok() ? SolveAssignment(memory, RunContext()) : filled;
}

absl::StatusOr<Assignment> Match(const std::vector<NeuronPair>& pairs) {
  DeviceSimilarities memory(TestDevice());
  return Match(pairs, memory);
}

TEST(DeviceSimilaritiesTest, MatchesNeuronsWhateverTheirLength) {
  const std::vector<float> rows = {1, 0, 0, 0, 2, 0, 3, 0, 4};
  const std::vector<float> moved = {6, 0, 8, 5, 0, 0, 0, 1, 0};
  const NeuronPair pair = {View(rows, 3, 3), View(moved, 3, 3)};

  const auto found = Match({pair, pair, pair});

  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, ElementsAre(1, 2, 0));
  EXPECT_NEAR(found->objective, 9, 9e-7);
  EXPECT_EQ(found->gap, 0);
}

TEST(DeviceSimilaritiesTest, GivesAZeroNeuronCosineZeroWithAll) {
  const std::vector<float> left = {0, 0, 1, 1};

  const std::vector<std::int32_t> costs =
      CostsOf({{View(left, 2, 2), View(left, 2, 2)}});

  EXPECT_THAT(costs, ElementsAre(0, 0, 0, ::testing::_));
  EXPECT_NEAR(static_cast<double>(costs[3]) / kSimilarityScale, -1, 1e-7);
}

// A length whose inverse fp32 has not, and one that it has not itself.
TEST(DeviceSimilaritiesTest, TakesNeuronsOfAnyLength) {
  const std::vector<float> left = {0x1p-140F, 0x1p-140F, -0x1.8p127F,
                                   0x1.8p127F};
  const std::vector<float> right = {1, 1, -1, 1};

  const auto found = Match({{View(left, 2, 2), View(right, 2, 2)}});

  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, ElementsAre(0, 1));
  EXPECT_NEAR(found->objective, 2, 2e-7);
}

TEST(DeviceSimilaritiesTest, WidensQuantisedNeurons) {
  // e4m3: 1 is 0x38, 2 is 0x40, −1 is 0xb8.
  const std::vector<std::uint8_t> codes = {0x38, 0x40, 0xb8, 0x38};
  const std::vector<float> scales = {0.3F, 7.0F};
  MatrixView left = {codes.data(), ElementType::kFloat8E4M3, 2, 2, 2};
  left.scales.data = scales.data();
  left.scales.block_cols = 2;
  left.scales.row_stride = 1;
  const std::vector<float> right = {-1, 1, 1, 2};

  const auto found = Match({{left, View(right, 2, 2)}});

  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, ElementsAre(1, 0));
  EXPECT_NEAR(found->objective, 2, 2e-7);
}

TEST(DeviceSimilaritiesTest, MatchesTheOnlyPairAndNothing) {
  const std::vector<float> one = {2, 0};
  const std::vector<float> other = {-3, 0};

  EXPECT_EQ(Match({{View(one, 1, 2), View(other, 1, 2)}})->objective_quantised,
            -(std::int64_t{1} << 28));
  EXPECT_TRUE(
      Match({{View(one, 0, 2), View(one, 0, 2)}})->permutation.empty());
}

TEST(DeviceSimilaritiesTest, IsUsedAgainForOtherSizes) {
  DeviceSimilarities memory(TestDevice());
  Matrices large(2, 70, 20, ElementType::kFloat32);
  large.FillRandom(1);
  Matrices small(2, 33, 50, ElementType::kFloat32);
  small.FillRandom(2);
  const NeuronPair pair = {small.views()[0], small.views()[1]};
  ASSERT_TRUE(Match({{large.views()[0], large.views()[1]}}, memory).ok());

  EXPECT_EQ(Match({pair}, memory)->objective_quantised,
            Match({pair})->objective_quantised);
  EXPECT_EQ(memory.size(), 33);
}

TEST(DeviceSimilaritiesTest, RefusesNeuronsThatAreNotFiniteOrDoNotFit) {
  std::vector<float> bad(200, 1.0F);
  bad[2 * 77 + 1] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> good(200, 1.0F);

  const absl::Status status =
      Match({{View(good, 100, 2), View(bad, 100, 2)}}).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("pairs"), HasSubstr("neuron 77 ")));
  bad[2 * 77 + 1] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Match({{View(bad, 100, 2), View(good, 100, 2)}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Match({{View(good, 100, 2), View(good, 99, 2)}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(DeviceSimilaritiesTest, StopsWhenCancelled) {
  const std::vector<float> rows = {1, 0, 0, 1};
  const std::vector<NeuronPair> pairs = {{View(rows, 2, 2), View(rows, 2, 2)}};
  const RunContext context;
  context.token().Cancel(absl::CancelledError("enough"));
  ThreadPool pool(2);
  DeviceSimilarities memory(TestDevice());

  EXPECT_EQ(FillCosines(pairs, pool, context, memory).code(),
            absl::StatusCode::kCancelled);
  ASSERT_EQ(FillCosines(pairs, pool, RunContext(), memory), absl::OkStatus());
  EXPECT_EQ(SolveAssignment(memory, context).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(DeviceSimilaritiesTest, FailsOnADeviceThatIsNone) {
  const std::vector<float> rows = {1, 0, 0, 1};
  DeviceSimilarities memory("abacus");

  EXPECT_EQ(Match({{View(rows, 2, 2), View(rows, 2, 2)}}, memory)
                .status()
                .code(),
            absl::StatusCode::kInternal);
}

at::Tensor OnDevice(const Instance& instance) {
  return at::from_blob(const_cast<float*>(instance.values.data()),
                       {instance.size, instance.size})
      .to(at::Device(TestDevice()))
      .clone()
      .view(at::kInt);
}

TEST(QuantiseInPlaceTest, RoundsAsTheHostDoes) {
  Instance instance = RandomInstance(40, 8, 1);
  // Halves of the last place go to even; the greatest magnitude; −0.
  instance.values[0] = 2.5F / 0x1p28F;
  instance.values[1] = -3.5F / 0x1p28F;
  instance.values[2] = kMaxSimilarity;
  instance.values[3] = -kMaxSimilarity;
  instance.values[4] = -0.0F;
  const SimilarityMatrix host = Quantise(instance);
  const at::Tensor costs = OnDevice(instance);

  ASSERT_EQ(internal::QuantiseInPlace(costs, RunContext()), absl::OkStatus());

  EXPECT_EQ(internal::ToHost<std::int32_t>(costs),
            std::vector<std::int32_t>(host.costs(), host.costs() + 40 * 40));
}

TEST(QuantiseInPlaceTest, RefusesWhatIsNoSimilarity) {
  Instance large = RandomInstance(40, 8, 1);
  large.values[7 * 40 + 3] = 3.6F;
  Instance nan = RandomInstance(40, 8, 1);
  nan.values[39 * 40 + 39] = std::nanf("");

  const absl::Status status =
      internal::QuantiseInPlace(OnDevice(large), RunContext());

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("similarities"), HasSubstr("row 7 ")));
  EXPECT_THAT(
      std::string(internal::QuantiseInPlace(OnDevice(nan), RunContext())
                      .message()),
      HasSubstr("row 39 "));
}

TEST(DeviceMatchingBytesTest, CountsTheMatrixAndWhatGoesWithIt) {
  // 4 F² + 4 F D + 8 · 2048 D + 16 · 2^22 + 64 F.
  EXPECT_EQ(DeviceMatchingBytes(14336, 4096),
            std::int64_t{4} * 14336 * 14336 + std::int64_t{4} * 14336 * 4096 +
                8 * 2048 * 4096 + (16 << 22) + 64 * 14336);
  EXPECT_EQ(DeviceMatchingBytes(10, 3), 4 * 100 + 120 + 240 + 1600 + 640);
}

}  // namespace
}  // namespace moescope::numerics
