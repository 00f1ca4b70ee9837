#include "moescope/numerics/assignment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "moescope/numerics/instruction_set.h"
#include "server/numerics/assignment_kernels_internal.h"
#include "server/numerics/assignment_solver_internal.h"
#include "tests/numerics/assignment_instances.h"
#include "tests/numerics/plain_assignment.h"

namespace moescope::numerics {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

SimilarityMatrix Quantise(const Instance& instance) {
  SimilarityMatrix matrix;
  matrix.Resize(instance.size);
  EXPECT_EQ(matrix.Set(0, 0, instance.view()), absl::OkStatus());
  return matrix;
}

// What a certificate must show, looked up in the matrix itself.
struct Audit {
  bool is_permutation = false;
  std::int64_t similarity = 0;
  std::int64_t duals = 0;
  // Least u_i + v_j − s_ij over all pairs.
  std::int64_t least_slack = std::numeric_limits<std::int64_t>::max();
};

Audit Check(const SimilarityMatrix& matrix, const Assignment& assignment) {
  const auto n = static_cast<std::size_t>(matrix.size());
  Audit audit;
  std::vector<char> taken(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const std::int64_t column = assignment.permutation.at(i);
    taken.at(static_cast<std::size_t>(column)) = 1;
    audit.similarity -= matrix.cost(row, column);
    audit.duals += assignment.row_duals.at(i) + assignment.column_duals.at(i);
    for (std::size_t j = 0; j < n; ++j) {
      const std::int64_t slack =
          assignment.row_duals[i] + assignment.column_duals[j] +
          matrix.cost(row, static_cast<std::int64_t>(j));
      audit.least_slack = std::min(audit.least_slack, slack);
    }
  }
  audit.is_permutation =
      std::all_of(taken.begin(), taken.end(), [](char c) { return c == 1; });
  return audit;
}

void ExpectProven(const SimilarityMatrix& matrix, const Assignment& found) {
  const Audit audit = Check(matrix, found);
  EXPECT_TRUE(audit.is_permutation);
  EXPECT_EQ(audit.similarity, found.objective_quantised);
  EXPECT_EQ(audit.duals, found.dual_quantised);
  // Every matched pair is tight, so some slack is 0 and none is below.
  EXPECT_EQ(audit.least_slack, 0);
  EXPECT_EQ(found.gap, 0);
}

// How many of 23 instances of `kind` (n from 1 to 400) are solved with the
// objective of the plain method.
int CountEqualToPlain(const std::string& kind) {
  int equal = 0;
  for (unsigned seed = 0; seed < 23; ++seed) {
    const std::int64_t n =
        seed < 21 ? 1 + 5 * std::int64_t{seed} : 150 * std::int64_t{seed} - 2900;
    const SimilarityMatrix matrix = Quantise(MakeInstance(kind, n, seed));
    const auto found = SolveAssignment(matrix, RunContext());
    EXPECT_TRUE(found.ok()) << kind << " " << n;
    const bool same = found.ok() && found->gap == 0 &&
                      -found->objective_quantised == PlainLeastCost(matrix);
    EXPECT_TRUE(same) << kind << ", n " << n << ", seed " << seed;
    equal += same ? 1 : 0;
  }
  return equal;
}

class AssignmentKindTest : public ::testing::TestWithParam<std::string> {};

// 24 kinds of 23 instances.
TEST_P(AssignmentKindTest, FindsTheObjectiveOfThePlainMethod) {
  EXPECT_EQ(CountEqualToPlain(GetParam()), 23);
}

TEST_P(AssignmentKindTest, ProvesItsMatching) {
  const SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 300, 1));
  const auto found = SolveAssignment(matrix, RunContext());
  ASSERT_EQ(found.status(), absl::OkStatus());
  ExpectProven(matrix, *found);
}

std::string TestName(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Kinds, AssignmentKindTest,
                         ::testing::ValuesIn(InstanceKinds()), TestName);

TEST(AssignmentTest, ProvesUnrelatedNeuronsOf4096) {
  const SimilarityMatrix matrix = Quantise(RandomInstance(4096, 48, 1));
  ExpectProven(matrix, *SolveAssignment(matrix, RunContext()));
}

TEST(AssignmentTest, ProvesStructuredNeuronsOf1408) {
  const SimilarityMatrix matrix = Quantise(StructuredInstance(1408, 256, 2));
  ExpectProven(matrix, *SolveAssignment(matrix, RunContext()));
}

TEST(AssignmentTest, ProvesStructuredNeuronsOf4096) {
  const SimilarityMatrix matrix = Quantise(StructuredInstance(4096, 96, 3));
  ExpectProven(matrix, *SolveAssignment(matrix, RunContext()));
}

TEST(AssignmentTest, ProvesADominantDirectionOf1408) {
  const SimilarityMatrix matrix =
      Quantise(DominantInstance(1408, 256, 3.0F, 4));
  ExpectProven(matrix, *SolveAssignment(matrix, RunContext()));
}

TEST(AssignmentTest, ProvesADominantDirectionOf4096) {
  const SimilarityMatrix matrix = Quantise(DominantInstance(4096, 96, 3.0F, 5));
  ExpectProven(matrix, *SolveAssignment(matrix, RunContext()));
}

TEST(AssignmentTest, ReturnsNothingForNothing) {
  const auto found = SolveAssignment(Instance().view(), RunContext());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, IsEmpty());
  EXPECT_EQ(found->objective, 0);
}

TEST(AssignmentTest, MatchesTheOnlyPair) {
  const Instance instance = {1, {-0.75F}};
  const auto found = SolveAssignment(instance.view(), RunContext());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, ElementsAre(0));
  EXPECT_EQ(found->objective, -0.75);
  EXPECT_EQ(found->objective_quantised, -3 * (std::int64_t{1} << 26));
  EXPECT_EQ(found->gap, 0);
}

TEST(AssignmentTest, PrefersTheSumToTheBestEntry) {
  const Instance instance = {2, {1.0F, 0.75F, 0.75F, 0.0F}};
  const auto found = SolveAssignment(instance.view(), RunContext());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, ElementsAre(1, 0));
  EXPECT_EQ(found->objective, 1.5);
}

TEST(AssignmentTest, SumsTheSimilaritiesThatItWasGiven) {
  const Instance instance = {1, {0.1F}};
  const auto found = SolveAssignment(instance.view(), RunContext());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_EQ(found->objective, static_cast<double>(0.1F));
}

TEST(AssignmentTest, RefusesNaN) {
  Instance instance = RandomInstance(40, 8, 1);
  instance.values[47] = std::nanf("");
  const absl::Status status =
      SolveAssignment(instance.view(), RunContext()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("similarities"), HasSubstr("row 1 ")));
}

TEST(AssignmentTest, RefusesInfinityInTheTail) {
  Instance instance = RandomInstance(19, 8, 1);
  instance.values[18] = HUGE_VALF;
  EXPECT_EQ(SolveAssignment(instance.view(), RunContext()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AssignmentTest, RefusesWhatIsNoSimilarity) {
  const Instance instance = {1, {3.6F}};
  EXPECT_EQ(SolveAssignment(instance.view(), RunContext()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AssignmentTest, RefusesARectangle) {
  const Instance instance = {2, {0, 0, 0, 0}};
  MatrixView view = instance.view();
  view.rows = 1;
  EXPECT_EQ(SolveAssignment(view, RunContext()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AssignmentTest, RefusesATileOutsideTheMatrix) {
  const Instance instance = {2, {0, 0, 0, 0}};
  SimilarityMatrix matrix;
  matrix.Resize(3);
  EXPECT_EQ(matrix.Set(2, 0, instance.view()).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AssignmentTest, StopsWhenCancelled) {
  const RunContext context;
  context.token().Cancel(absl::CancelledError("enough"));
  const Instance instance = RandomInstance(50, 8, 1);
  EXPECT_EQ(SolveAssignment(instance.view(), context).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(AssignmentTest, StopsAtItsDeadline) {
  const SimilarityMatrix matrix = Quantise(DominantInstance(2048, 16, 9.0F, 1));
  RunContext context;
  context.set_deadline(absl::Now() + absl::Milliseconds(5));
  EXPECT_EQ(SolveAssignment(matrix, context).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

// The ways that SolveAssignment takes only for matrices of some kind.
std::int64_t LeastCost(const SimilarityMatrix& matrix,
                       const internal::SolverOptions& options) {
  internal::MemoryCosts costs(matrix);
  const auto solution = internal::SolveCosts(costs, options, RunContext());
  EXPECT_EQ(solution.status(), absl::OkStatus());
  std::int64_t cost = 0;
  for (std::int64_t i = 0; i < matrix.size(); ++i) {
    cost += matrix.cost(
        i, solution->column_of_row[static_cast<std::size_t>(i)]);
  }
  return cost;
}

TEST_P(AssignmentKindTest, IsTheSameOverWholeRows) {
  const SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 150, 3));
  internal::SolverOptions options;
  options.max_rounds = options.max_rounds_after_transport = 0;
  EXPECT_EQ(LeastCost(matrix, options), PlainLeastCost(matrix));
}

TEST_P(AssignmentKindTest, IsTheSameFromTransport) {
  const SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 150, 4));
  internal::SolverOptions options;
  options.hard_share = 0;
  EXPECT_EQ(LeastCost(matrix, options), PlainLeastCost(matrix));
}

TEST_P(AssignmentKindTest, IsTheSameOnTheThinnestCore) {
  const SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 60, 5));
  internal::SolverOptions options;
  options.core_per_line = options.arcs_per_violation = 1;
  options.hard_share = options.give_up_share = 2;
  options.max_rounds = 1000;
  EXPECT_EQ(LeastCost(matrix, options), PlainLeastCost(matrix));
}

TEST(AssignmentTest, SortsWhatSortingSolves) {
  const SimilarityMatrix matrix =
      Quantise(MakeInstance("rank one", 600, 7));
  internal::MemoryCosts costs(matrix);

  const auto solution = internal::SolveCosts(
      costs, internal::SolverOptions(), RunContext());

  ASSERT_EQ(solution.status(), absl::OkStatus());
  EXPECT_FALSE(solution->effort.transport);
  EXPECT_FALSE(solution->effort.dense);
  EXPECT_LE(solution->effort.rounds, 2);
}

TEST(AssignmentTest, PricesDualsThatNeed64Bits) {
  const SimilarityMatrix matrix = Quantise({2, {1.0F, 0.5F, 0.25F, 0.0F}});
  internal::MemoryCosts costs(matrix);
  constexpr std::int64_t kLarge = std::int64_t{1} << 40;
  const auto found = costs.FindViolations(
      {{0, 0}, {kLarge, -kLarge}}, 16, RunContext());
  ASSERT_EQ(found.status(), absl::OkStatus());
  ASSERT_EQ(found->size(), 2U);
  EXPECT_EQ((*found)[1].row, 1);
  ASSERT_EQ((*found)[1].arcs.size(), 1U);
  EXPECT_EQ((*found)[1].arcs[0].column, 0);
}

// Every instruction set against one lane at a time.
class AssignmentKernelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_EQ(ForceInstructionSetForTest(GetParam()), absl::OkStatus());
  }
  void TearDown() override {
    ASSERT_EQ(ForceInstructionSetForTest(""), absl::OkStatus());
  }
};

INSTANTIATE_TEST_SUITE_P(Sets, AssignmentKernelTest,
                         ::testing::ValuesIn(AvailableInstructionSets()),
                         TestName);

TEST_P(AssignmentKernelTest, RoundsHalvesToEven) {
  const float unit = 1.0F / 268435456.0F;
  const std::vector<float> values = {
      0.5F * unit, 1.5F * unit, -0.5F * unit, -2.5F * unit, 1.0F,  -3.5F,
      0.4F * unit, 0.6F * unit, 0.0F,         2.5F * unit,  0.25F, -0.25F,
      3.0F * unit, -unit,       7.5F * unit,  0.5F,         1.5F * unit,
      2.5F * unit};
  std::vector<std::int32_t> costs(values.size());
  ASSERT_TRUE(internal::QuantiseRun(values.data(), 18, kMaxSimilarity,
                                    costs.data()));
  EXPECT_THAT(costs, ElementsAre(0, -2, 0, 2, -268435456, 939524096, 0, -1, 0,
                                 -2, -67108864, 67108864, -3, 1, -8,
                                 -134217728, -2, -2));
}

TEST_P(AssignmentKernelTest, CollectsWhatIsBelow) {
  std::vector<std::int32_t> row(77);
  std::vector<std::int32_t> shift(77);
  for (std::size_t j = 0; j < row.size(); ++j) {
    row[j] = static_cast<std::int32_t>(j * 37 % 101);
    shift[j] = static_cast<std::int32_t>(j * 11 % 13) - 6;
  }
  std::vector<std::int32_t> expected;
  std::vector<std::int32_t> expected_each;
  for (std::int32_t j = 5; j < 70; ++j) {
    const auto at = static_cast<std::size_t>(j);
    if (row[at] - shift[at] < 30) {
      expected.push_back(j);
    }
    if (row[at] - 4 < shift[at]) {
      expected_each.push_back(j);
    }
  }
  std::vector<std::int32_t> found(row.size() + internal::kCollectPadding);
  found.resize(static_cast<std::size_t>(internal::CollectBelow(
      row.data(), shift.data(), 5, 70, 30, found.data())));
  EXPECT_EQ(found, expected);
  const std::vector<std::int64_t> wide(shift.begin(), shift.end());
  found.resize(row.size());
  found.resize(static_cast<std::size_t>(internal::CollectBelowWide(
      row.data(), wide.data(), 5, 70, 30, found.data())));
  EXPECT_EQ(found, expected);
  found.resize(row.size() + internal::kCollectPadding);
  found.resize(static_cast<std::size_t>(internal::CollectBelowEach(
      row.data(), 4, shift.data(), 5, 70, found.data())));
  EXPECT_EQ(found, expected_each);
}

TEST_P(AssignmentKernelTest, FindsTheLeastDifferenceInTheTail) {
  const std::vector<std::int32_t> row(19, 5);
  std::vector<std::int64_t> shift(19, 1);
  EXPECT_EQ(internal::LeastDifference(row.data(), shift.data(), 19), 4);
  shift[18] = 9;
  EXPECT_EQ(internal::LeastDifference(row.data(), shift.data(), 19), -4);
}

TEST_P(AssignmentKernelTest, RelaxesOpenColumnsOnly) {
  const std::vector<std::int32_t> row = {9, 3, 7, 1, 3, 8, 9, 9, 9, 9, 2};
  const std::vector<std::int64_t> shift(11, 0);
  std::vector<std::int64_t> closed(11, 0);
  closed[3] = -1;
  std::vector<std::int64_t> distance(11, 100);
  distance[3] = 4;
  distance[10] = 11;
  std::vector<std::int64_t> previous(11, -1);
  EXPECT_EQ(internal::RelaxAll(row.data(), 10, 6,
                               {11, shift.data(), closed.data(),
                                distance.data(), previous.data()}),
            10);
  EXPECT_THAT(distance, ElementsAre(19, 13, 17, 4, 13, 18, 19, 19, 19, 19, 11));
  EXPECT_THAT(previous, ElementsAre(6, 6, 6, -1, 6, 6, 6, 6, 6, 6, -1));
}

TEST_P(AssignmentKernelTest, SpreadsOneUnitOverARow) {
  const std::vector<std::int32_t> row = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0,
                                         1, 2, 0, 1, 2, 0, 1, 2, 0};
  const std::vector<float> shift(19, 0.0F);
  std::vector<float> buffer(19);
  std::vector<float> sums(19, 1.0F);
  internal::AddTransportRow(row.data(), shift.data(), 19, -1.0F, buffer.data(),
                            sums.data());
  // 7 + 6/2 + 6/4 units.
  EXPECT_NEAR(sums[0], 1 + 1 / 11.5, 1e-4);
  EXPECT_NEAR(sums[1], 1 + 0.5 / 11.5, 1e-4);
  EXPECT_NEAR(sums[17], 1 + 0.25 / 11.5, 1e-4);
}

TEST_P(AssignmentKernelTest, SolvesWithTheSameObjective) {
  const SimilarityMatrix matrix = Quantise(DominantInstance(203, 16, 4.0F, 1));
  const auto found = SolveAssignment(matrix, RunContext());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_EQ(-found->objective_quantised, PlainLeastCost(matrix));
}

}  // namespace
}  // namespace moescope::numerics
