#include "moescope/numerics/gram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "moescope/numerics/instruction_set.h"
#include "server/numerics/gram_kernels_internal.h"
#include "tests/numerics/matrices.h"

namespace moescope::numerics {
namespace {

using ::testing::Contains;
using ::testing::DoubleEq;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsNan;

GramOptions Everything() {
  GramOptions options;
  options.standardised_gram = true;
  options.row_norms = options.column_norms = true;
  options.mean_row = options.mean_column = true;
  return options;
}

GramResult Compute(const std::vector<MatrixView>& views,
                   const GramOptions& options, int threads = 1) {
  ThreadPool pool(threads);
  return *ComputeGram(views, options, pool, RunContext());
}

// What the header promises, element by element in fp64.
struct Reference {
  std::vector<double> gram, magnitude, standardised, row_norms, column_norms;
  std::vector<double> mean_row, mean_column;
};

void Standardise(std::vector<std::vector<double>>& z) {
  const auto n = static_cast<double>(z.size());
  for (std::size_t t = 0; t < z[0].size(); ++t) {
    double mean = 0;
    double squares = 0;
    for (const auto& x : z) {
      mean += x[t] / n;
    }
    for (const auto& x : z) {
      squares += (x[t] - mean) * (x[t] - mean);
    }
    const bool constant = std::all_of(
        z.begin(), z.end(), [&, first = z[0][t]](const auto& x) {
          return x[t] == first;
        });
    for (auto& x : z) {
      x[t] = constant ? 0 : (x[t] - mean) / std::sqrt(squares / (n - 1));
    }
  }
}

Reference Slow(const std::vector<std::vector<double>>& values,
               std::int64_t rows, std::int64_t cols) {
  Reference out;
  std::vector<std::vector<double>> z = values;
  Standardise(z);
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (std::size_t j = 0; j < values.size(); ++j) {
      double sum = 0;
      double magnitude = 0;
      double standardised = 0;
      for (std::size_t t = 0; t < values[i].size(); ++t) {
        sum += values[i][t] * values[j][t];
        magnitude += std::fabs(values[i][t] * values[j][t]);
        standardised += z[i][t] * z[j][t];
      }
      out.gram.push_back(sum);
      out.magnitude.push_back(magnitude);
      out.standardised.push_back(standardised);
    }
    const auto add = [&](std::int64_t outer, std::int64_t inner,
                         std::int64_t step, std::int64_t inner_step,
                         std::vector<double>& norms,
                         std::vector<double>& means) {
      for (std::int64_t a = 0; a < outer; ++a) {
        double sum = 0;
        double squares = 0;
        for (std::int64_t b = 0; b < inner; ++b) {
          const double x =
              values[i][static_cast<std::size_t>(a * step + b * inner_step)];
          sum += x;
          squares += x * x;
        }
        norms.push_back(std::sqrt(squares));
        means.push_back(sum / static_cast<double>(inner));
      }
    };
    add(rows, cols, cols, 1, out.row_norms, out.mean_column);
    add(cols, rows, 1, cols, out.column_norms, out.mean_row);
  }
  return out;
}

double Worst(const std::vector<double>& actual,
             const std::vector<double>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::fabs(actual[i] - expected[i]);
    worst = std::isnan(difference) ? HUGE_VAL : std::max(worst, difference);
  }
  return worst;
}

constexpr double kFp32Epsilon = 0x1p-24;

// Sums of at most 4096 products in fp32 lose at most 4096 roundings of the sum
// of magnitudes; 1 more for the product itself.
void ExpectNearReference(const GramResult& result,
                         const std::vector<std::vector<double>>& values) {
  const Reference slow = Slow(values, result.rows, result.cols);
  const double magnitude =
      *std::max_element(slow.magnitude.begin(), slow.magnitude.end());
  EXPECT_LE(Worst(result.gram, slow.gram), 4097 * kFp32Epsilon * magnitude);
  // A standardised value is off by a few roundings; |z| ≤ √N, one per element.
  const double coordinates = static_cast<double>(values[0].size());
  const double points = static_cast<double>(values.size());
  EXPECT_LE(Worst(result.standardised_gram, slow.standardised),
            (4097 + 16 * points) * kFp32Epsilon * coordinates * points);
  // Elements here are at most 2; at most 1024 are summed in fp32.
  const double long_side =
      static_cast<double>(std::max(result.rows, result.cols));
  const double norm_error = 1024 * kFp32Epsilon * 2 * std::sqrt(long_side);
  EXPECT_LE(Worst(result.row_norms, slow.row_norms), norm_error);
  EXPECT_LE(Worst(result.column_norms, slow.column_norms), norm_error);
  EXPECT_LE(Worst(result.mean_row, slow.mean_row), 1024 * kFp32Epsilon * 2);
  EXPECT_LE(Worst(result.mean_column, slow.mean_column),
            1024 * kFp32Epsilon * 2);
}

// Every test runs once with each set that this processor has.
class GramTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ForceInstructionSetForTest(GetParam()).ok());
  }
  void TearDown() override { ASSERT_TRUE(ForceInstructionSetForTest("").ok()); }
};
INSTANTIATE_TEST_SUITE_P(
    Sets, GramTest, ::testing::ValuesIn(AvailableInstructionSets()),
    [](const auto& set) { return set.param; });

TEST_P(GramTest, SaysWhichSetItRunsWith) {
  EXPECT_EQ(KernelInstructionSet(), GetParam());
}

TEST_P(GramTest, IsExactForSmallIntegers) {
  Matrices matrices(3, 2, 2, ElementType::kBFloat16);
  matrices.Set(0, 0, 0, 1);
  matrices.Set(0, 0, 1, 2);
  matrices.Set(0, 1, 0, 3);
  matrices.Set(0, 1, 1, 4);
  matrices.Set(1, 0, 0, -1);
  matrices.Set(1, 0, 1, 0);
  matrices.Set(1, 1, 0, 2);
  matrices.Set(1, 1, 1, 5);
  matrices.Set(2, 0, 0, 0);
  matrices.Set(2, 0, 1, 0);
  matrices.Set(2, 1, 0, 0);
  matrices.Set(2, 1, 1, 0);

  const GramResult result = Compute(matrices.views(), Everything());

  EXPECT_THAT(result.gram, ElementsAre(30, 25, 0, 25, 30, 0, 0, 0, 0));
  EXPECT_THAT(result.mean_row, ElementsAre(2, 3, 0.5, 2.5, 0, 0));
  EXPECT_THAT(result.mean_column, ElementsAre(1.5, 3.5, -0.5, 3.5, 0, 0));
  EXPECT_THAT(result.row_norms,
              ElementsAre(std::sqrt(5.0), 5, 1, std::sqrt(29.0), 0, 0));
  EXPECT_THAT(result.column_norms,
              ElementsAre(std::sqrt(10.0), std::sqrt(20.0), std::sqrt(5.0), 5,
                          0, 0));
  EXPECT_THAT(result.nonfinite, ElementsAre(0, 0, 0));
}

TEST_P(GramTest, AgreesWithFp64OnOddSizes) {
  Matrices matrices(5, 37, 131, ElementType::kBFloat16);
  matrices.FillRandom(1);

  ExpectNearReference(Compute(matrices.views(), Everything()),
                      matrices.values());
}

TEST_P(GramTest, AgreesWithFp64InHalfPrecision) {
  Matrices matrices(3, 19, 67, ElementType::kFloat16);
  matrices.FillRandom(2);

  ExpectNearReference(Compute(matrices.views(), Everything()),
                      matrices.values());
}

TEST_P(GramTest, AgreesWithFp64InSinglePrecision) {
  Matrices matrices(9, 23, 45, ElementType::kFloat32);
  matrices.FillRandom(3);

  ExpectNearReference(Compute(matrices.views(), Everything()),
                      matrices.values());
}

TEST_P(GramTest, ReadsMisalignedDataAndSkipsWhatLiesBetweenRows) {
  Matrices matrices(4, 13, 77, ElementType::kBFloat16, /*padding=*/5,
                    /*offset=*/3);
  matrices.FillRandom(4);

  const GramResult result = Compute(matrices.views(), Everything());

  ExpectNearReference(result, matrices.values());
  EXPECT_THAT(result.nonfinite, Each(0));
}

void ExpectNearReferenceFor(std::int64_t participants, std::int64_t rows,
                            std::int64_t cols, ElementType type) {
  Matrices matrices(participants, rows, cols, type);
  matrices.FillRandom(static_cast<unsigned>(participants));
  SCOPED_TRACE(participants);

  ExpectNearReference(Compute(matrices.views(), Everything()),
                      matrices.values());
}

// Up to 16 participants take the runs of several rows in parts that fit the
// first-level cache; eight and nine are standardised in registers; more take one
// run after another. Rows of 2079 are longer than a block.
TEST_P(GramTest, AgreesWithFp64ForAnyNumberOfParticipants) {
  const ElementType type = ElementType::kBFloat16;
  ExpectNearReferenceFor(2, 11, 6001, type);
  ExpectNearReferenceFor(7, 19, 2079, type);
  ExpectNearReferenceFor(8, 19, 2079, type);
  ExpectNearReferenceFor(9, 19, 2079, type);
  ExpectNearReferenceFor(16, 9, 2079, type);
  ExpectNearReferenceFor(17, 9, 2079, type);
  ExpectNearReferenceFor(64, 3, 1057, type);
  ExpectNearReferenceFor(160, 2, 533, type);
}

// Of rows too long for one block, and enough of them for several chunks.
TEST_P(GramTest, AgreesWithFp64OverManyChunksAndColumnBlocks) {
  ExpectNearReferenceFor(2, 39, 70001, ElementType::kBFloat16);
}

TEST_P(GramTest, AgreesWithFp64ForEightParticipantsOfOtherTypes) {
  ExpectNearReferenceFor(8, 9, 2079, ElementType::kFloat16);
  ExpectNearReferenceFor(8, 9, 2079, ElementType::kFloat32);
  ExpectNearReferenceFor(9, 40, 95, ElementType::kFloat32);
}

// Positive numbers of fifteen binades, which all types have: their sums need more
// bits than fp32 has.
void FillPositive(unsigned seed, std::int64_t count, std::int64_t rows,
                  std::int64_t cols, Matrices& matrices) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> significand(64, 127);
  std::uniform_int_distribution<int> exponent(-14, 0);
  for (std::int64_t m = 0; m < count; ++m) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) {
        matrices.Set(m, r, c,
                     std::ldexp(static_cast<float>(significand(random)) / 64,
                                exponent(random)));
      }
    }
  }
}

// Sums of 32 numbers below 2, multiples of 2^-20, take 26 bits at most: an
// addition rounds by 2^-19 at worst, mostly not at all, and the roundings of 128
// sums of 4096 rows average out: within 2^-26 of the mean. Squares take more
// bits and round by 2^-19 each time; divided by twice the norm (20 and more) all
// 4096 of them make 2^-12 at worst, and of both signs 2^-20.
TEST_P(GramTest, SumsLongColumnsOfOneSignWithoutLosingDigits) {
  Matrices matrices(2, 4096, 37, ElementType::kBFloat16);
  FillPositive(21, 2, 4096, 37, matrices);
  const Reference slow = Slow(matrices.values(), 4096, 37);
  GramOptions by_columns;
  by_columns.gram = false;
  by_columns.mean_row = by_columns.row_norms = true;
  GramOptions squares = by_columns;
  squares.mean_row = squares.row_norms = false;
  squares.mean_column = squares.column_norms = true;

  const GramResult means = Compute(matrices.views(), by_columns);
  const GramResult norms = Compute(matrices.views(), squares);
  const GramResult all = Compute(matrices.views(), Everything());

  EXPECT_LE(Worst(means.mean_row, slow.mean_row), 0x1p-26);
  EXPECT_LE(Worst(all.mean_row, slow.mean_row), 0x1p-26);
  EXPECT_LE(Worst(norms.column_norms, slow.column_norms), 0x1p-20);
  EXPECT_LE(Worst(all.column_norms, slow.column_norms), 0x1p-20);
}

// 2^±75 times what is summed elsewhere: squares are beyond the range of fp32.
TEST_P(GramTest, KeepsWeightsWhoseSquaresLeaveTheRange) {
  Matrices matrices(3, 40, 70, ElementType::kBFloat16);
  FillPositive(23, 3, 40, 70, matrices);
  for (std::int64_t i = 0; i < 2800; ++i) {
    const auto at = static_cast<std::size_t>(i);
    matrices.Set(0, i / 70, i % 70, std::ldexp(static_cast<float>(
                                        matrices.values()[0][at]), 75));
    matrices.Set(1, i / 70, i % 70, std::ldexp(static_cast<float>(
                                        matrices.values()[1][at]), -75));
  }
  const Reference slow = Slow(matrices.values(), 40, 70);

  const GramResult result = Compute(matrices.views(), Everything());

  EXPECT_THAT(result.nonfinite, Each(0));
  std::vector<double> ratios;
  for (std::size_t i = 0; i < 9; ++i) {
    ratios.push_back(result.gram[i] / slow.gram[i]);
  }
  for (std::size_t i = 0; i < 120; ++i) {
    ratios.push_back(result.row_norms[i] / slow.row_norms[i]);
    ratios.push_back(result.mean_column[i] / slow.mean_column[i]);
  }
  EXPECT_THAT(ratios, Each(testing::DoubleNear(1, 1e-5)));
}

// More than one block; the second matrix is scaled too.
TEST_P(GramTest, ScalingAParticipantByAPowerOfTwoScalesItsResults) {
  Matrices small(2, 300, 2079, ElementType::kFloat32);
  FillPositive(24, 2, 300, 2079, small);
  Matrices large(2, 300, 2079, ElementType::kFloat32);
  for (std::int64_t i = 0; i < 300 * 2079; ++i) {
    const auto at = static_cast<std::size_t>(i);
    large.Set(0, i / 2079, i % 2079,
              std::ldexp(static_cast<float>(small.values()[0][at]), 80));
    large.Set(1, i / 2079, i % 2079,
              std::ldexp(static_cast<float>(small.values()[1][at]), 3));
  }

  const GramResult before = Compute(small.views(), Everything(), 2);
  const GramResult after = Compute(large.views(), Everything(), 2);

  EXPECT_THAT(after.nonfinite, Each(0));
  EXPECT_NEAR(after.gram[0] / std::ldexp(before.gram[0], 160), 1, 1e-6);
  EXPECT_NEAR(after.gram[1] / std::ldexp(before.gram[1], 83), 1, 1e-6);
  EXPECT_NEAR(after.row_norms[299] / std::ldexp(before.row_norms[299], 80), 1,
              1e-6);
  EXPECT_NEAR(after.mean_row[4157] / std::ldexp(before.mean_row[4157], 3), 1,
              1e-6);
}

TEST_P(GramTest, ColumnSumsDoNotDependOnTheNumberOfParticipants) {
  Matrices matrices(5, 301, 7001, ElementType::kBFloat16);
  FillPositive(22, 5, 301, 7001, matrices);
  GramOptions options;
  options.gram = false;
  options.mean_row = true;

  const GramResult alone = Compute({matrices.views()[0]}, options);
  const GramResult together = Compute(matrices.views(), options);

  EXPECT_EQ(alone.mean_row,
            std::vector<double>(together.mean_row.begin(),
                                together.mean_row.begin() + 7001));
}

void ExpectSameForThreads(std::int64_t participants, std::int64_t rows,
                          std::int64_t cols) {
  Matrices matrices(participants, rows, cols, ElementType::kBFloat16);
  matrices.FillRandom(6);

  const GramResult one = Compute(matrices.views(), Everything(), 1);
  const GramResult many = Compute(matrices.views(), Everything(), 5);

  EXPECT_EQ(one.gram, many.gram);
  EXPECT_EQ(one.standardised_gram, many.standardised_gram);
  EXPECT_EQ(one.row_norms, many.row_norms);
  EXPECT_EQ(one.column_norms, many.column_norms);
  EXPECT_EQ(one.mean_row, many.mean_row);
  EXPECT_EQ(one.mean_column, many.mean_column);
}

TEST_P(GramTest, DoesNotDependOnThreads) {
  ExpectSameForThreads(3, 700, 3001);
  ExpectSameForThreads(8, 300, 2079);
}

TEST_P(GramTest, MixesElementTypes) {
  Matrices bfloat(1, 7, 33, ElementType::kBFloat16);
  Matrices half(1, 7, 33, ElementType::kFloat16);
  Matrices single(1, 7, 33, ElementType::kFloat32);
  bfloat.FillRandom(7);
  half.FillRandom(8);
  single.FillRandom(9);
  const std::vector<MatrixView> views = {
      bfloat.views()[0], half.views()[0], single.views()[0]};

  ExpectNearReference(
      Compute(views, Everything()),
      {bfloat.values()[0], half.values()[0], single.values()[0]});
}

TEST_P(GramTest, TakesASingleParticipant) {
  Matrices matrices(1, 3, 5, ElementType::kFloat32);
  matrices.FillRandom(10);

  const GramResult result = Compute(matrices.views(), Everything());

  EXPECT_NEAR(result.gram[0],
              Slow(matrices.values(), 3, 5).gram[0], 1e-5);
  EXPECT_THAT(result.standardised_gram, ElementsAre(0));
}

TEST_P(GramTest, StandardisesConstantCoordinatesToZero) {
  Matrices matrices(3, 1, 2, ElementType::kFloat32);
  matrices.Set(0, 0, 0, 0.1F);
  matrices.Set(1, 0, 0, 0.1F);
  matrices.Set(2, 0, 0, 0.1F);
  matrices.Set(0, 0, 1, 1);
  matrices.Set(1, 0, 1, 2);
  matrices.Set(2, 0, 1, 3);

  const GramResult result = Compute(matrices.views(), Everything());

  EXPECT_THAT(result.standardised_gram,
              ElementsAre(1, 0, -1, 0, 0, 0, -1, 0, 1));
}

TEST_P(GramTest, StandardisesTinyAndHugeAndNearlyEqualCoordinates) {
  Matrices matrices(3, 1, 3, ElementType::kFloat32);
  matrices.Set(0, 0, 0, 1e-30F);
  matrices.Set(1, 0, 0, 2e-30F);
  matrices.Set(2, 0, 0, 3e-30F);
  matrices.Set(0, 0, 1, 1e30F);
  matrices.Set(1, 0, 1, 2e30F);
  matrices.Set(2, 0, 1, 3e30F);
  matrices.Set(0, 0, 2, 1);
  matrices.Set(1, 0, 2, 1 + 0x1p-23F);
  matrices.Set(2, 0, 2, 1 + 0x1p-22F);

  GramOptions options;
  options.gram = false;
  options.standardised_gram = true;
  const GramResult result = Compute(matrices.views(), options);

  // Three coordinates of -1, 0, 1, each within a few roundings.
  EXPECT_NEAR(result.standardised_gram[0], 3, 64 * kFp32Epsilon);
  EXPECT_NEAR(result.standardised_gram[2], -3, 64 * kFp32Epsilon);
  EXPECT_NEAR(result.standardised_gram[4], 0, 64 * kFp32Epsilon);
}

TEST_P(GramTest, CountsNonfiniteValuesAndKeepsThemApart) {
  Matrices matrices(3, 2, 40, ElementType::kBFloat16);
  matrices.FillRandom(11);
  matrices.Set(1, 0, 3, std::numeric_limits<float>::quiet_NaN());
  matrices.Set(1, 1, 39, std::numeric_limits<float>::infinity());

  const GramResult result = Compute(matrices.views(), Everything());

  EXPECT_THAT(result.nonfinite, ElementsAre(0, 2, 0));
  EXPECT_TRUE(std::isfinite(result.gram[0]));
  EXPECT_TRUE(std::isfinite(result.gram[2]));
  EXPECT_THAT(result.gram[4], IsNan());
  EXPECT_FALSE(std::isfinite(result.gram[1]));
  EXPECT_THAT(result.row_norms[2], IsNan());
  EXPECT_FALSE(std::isfinite(result.row_norms[3]));
  EXPECT_TRUE(std::isfinite(result.row_norms[4]));
  EXPECT_THAT(result.standardised_gram, Each(IsNan()));
}

TEST_P(GramTest, CountsNonfiniteValuesWhateverIsAsked) {
  Matrices matrices(2, 2, 3, ElementType::kFloat32);
  matrices.FillRandom(12);
  matrices.Set(0, 1, 1, std::numeric_limits<float>::infinity());
  GramOptions means;
  means.gram = false;
  means.mean_row = true;
  GramOptions nothing;
  nothing.gram = false;

  EXPECT_THAT(Compute(matrices.views(), means).nonfinite, ElementsAre(1, 0));
  EXPECT_THAT(Compute(matrices.views(), nothing).nonfinite, ElementsAre(1, 0));
}

TEST_P(GramTest, WidensEveryHalfPrecisionNumber) {
  std::vector<std::uint16_t> all(65536);
  std::vector<double> expected(65536);
  std::vector<float> wide(65536);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = static_cast<std::uint16_t>(i);
    expected[i] = FromFloat16(all[i]);
  }

  internal::WidenRun(all.data(), ElementType::kFloat16, 65536, 0, wide.data());

  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto actual = static_cast<double>(wide[i]);
    wrong += actual == expected[i] ||
                     (std::isnan(actual) && std::isnan(expected[i]))
                 ? 0
                 : 1;
  }
  EXPECT_EQ(wrong, 0);
}

TEST_P(GramTest, PermutingParticipantsPermutesTheResult) {
  Matrices matrices(3, 11, 29, ElementType::kBFloat16);
  matrices.FillRandom(13);
  const std::vector<MatrixView> views = matrices.views();

  const GramResult a = Compute(views, GramOptions());
  const GramResult b = Compute({views[2], views[0], views[1]}, GramOptions());

  EXPECT_EQ(a.gram[0 * 3 + 1], b.gram[1 * 3 + 2]);
  EXPECT_EQ(a.gram[0 * 3 + 2], b.gram[0 * 3 + 1]);
  EXPECT_EQ(a.gram[2 * 3 + 2], b.gram[0 * 3 + 0]);
}

TEST(GramContractTest, LeavesOutWhatWasNotAsked) {
  Matrices matrices(2, 2, 2, ElementType::kFloat32);
  matrices.FillRandom(14);

  const GramResult result = Compute(matrices.views(), GramOptions());

  EXPECT_EQ(result.gram.size(), 4U);
  EXPECT_TRUE(result.standardised_gram.empty());
  EXPECT_TRUE(result.row_norms.empty());
  EXPECT_TRUE(result.column_norms.empty());
  EXPECT_TRUE(result.mean_row.empty());
  EXPECT_TRUE(result.mean_column.empty());
}

TEST(GramContractTest, TakesMatricesWithoutElements) {
  const Matrices matrices(2, 0, 3, ElementType::kFloat32);

  const GramResult result = Compute(matrices.views(), Everything());

  EXPECT_THAT(result.gram, Each(DoubleEq(0)));
  EXPECT_THAT(result.mean_row, ElementsAre(0, 0, 0, 0, 0, 0));
}

TEST(GramContractTest, RefusesNoParticipants) {
  ThreadPool pool(1);

  const auto result = ComputeGram({}, GramOptions(), pool, RunContext());

  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(result.status()).fields[0].field, "participants");
}

TEST(GramContractTest, RefusesDifferentShapes) {
  const Matrices a(1, 2, 3, ElementType::kFloat32);
  const Matrices b(1, 3, 2, ElementType::kFloat32);
  ThreadPool pool(1);

  const auto result = ComputeGram({a.views()[0], b.views()[0]}, GramOptions(),
                                  pool, RunContext());

  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(result.status().message(),
            "participants[1]: has shape [3, 2], participants[0] has [2, 3]");
}

TEST(GramContractTest, StopsWhenCancelled) {
  const Matrices matrices(1, 2, 3, ElementType::kFloat32);
  ThreadPool pool(1);
  const RunContext context;
  context.token().Cancel(absl::CancelledError("enough"));

  const auto result =
      ComputeGram(matrices.views(), GramOptions(), pool, context);

  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
}

TEST(InstructionSetTest, AlwaysHasTheScalarOne) {
  EXPECT_THAT(AvailableInstructionSets(), Contains("scalar"));
}

TEST(InstructionSetTest, RefusesUnknownNames) {
  const absl::Status status = ForceInstructionSetForTest("mmx");

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("instruction_set: \"mmx\" is not one of "));
}

}  // namespace
}  // namespace moescope::numerics
