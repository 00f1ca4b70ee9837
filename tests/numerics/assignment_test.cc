#include "moescope/numerics/assignment.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "server/numerics/assignment_solver_internal.h"
#include "tests/numerics/assignment_instances.h"
#include "tests/numerics/assignment_testing.h"
#include "tests/numerics/cancelling_costs.h"
#include "tests/numerics/plain_assignment.h"

namespace moescope::numerics {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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
    SimilarityMatrix matrix = Quantise(MakeInstance(kind, n, seed));
    const auto found = Solve(matrix);
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
  SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 300, 1));
  const auto found = Solve(matrix);
  ASSERT_EQ(found.status(), absl::OkStatus());
  ExpectProven(matrix, *found);
}

TEST_P(AssignmentKindTest, IsTheSameForAnyNumberOfThreads) {
  SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 250, 6));
  ThreadPool three(3);
  const auto one = Solve(matrix);
  const auto shared = SolveAssignment(matrix, three, RunContext());
  ASSERT_EQ(one.status(), absl::OkStatus());
  ASSERT_EQ(shared.status(), absl::OkStatus());
  EXPECT_EQ(one->permutation, shared->permutation);
  EXPECT_EQ(one->row_duals, shared->row_duals);
  EXPECT_EQ(one->column_duals, shared->column_duals);
}

INSTANTIATE_TEST_SUITE_P(Kinds, AssignmentKindTest,
                         ::testing::ValuesIn(InstanceKinds()), TestName);

TEST(AssignmentTest, ProvesUnrelatedNeuronsOf4096) {
  SimilarityMatrix matrix = Quantise(RandomInstance(4096, 48, 1));
  ExpectProven(matrix, *Solve(matrix));
}

TEST(AssignmentTest, ProvesStructuredNeuronsOf1408) {
  SimilarityMatrix matrix = Quantise(StructuredInstance(1408, 256, 2));
  ExpectProven(matrix, *Solve(matrix));
}

TEST(AssignmentTest, ProvesStructuredNeuronsOf4096) {
  SimilarityMatrix matrix = Quantise(StructuredInstance(4096, 96, 3));
  ExpectProven(matrix, *Solve(matrix));
}

TEST(AssignmentTest, ProvesADominantDirectionOf1408) {
  SimilarityMatrix matrix =
      Quantise(DominantInstance(1408, 256, 3.0F, 4));
  ExpectProven(matrix, *Solve(matrix));
}

TEST(AssignmentTest, ProvesADominantDirectionOf4096) {
  SimilarityMatrix matrix = Quantise(DominantInstance(4096, 96, 3.0F, 5));
  ExpectProven(matrix, *Solve(matrix));
}

TEST(AssignmentTest, ReturnsNothingForNothing) {
  const auto found = Solve(Instance().view());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, IsEmpty());
  EXPECT_EQ(found->objective, 0);
}

TEST(AssignmentTest, MatchesTheOnlyPair) {
  const Instance instance = {1, {-0.75F}};
  const auto found = Solve(instance.view());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, ElementsAre(0));
  EXPECT_EQ(found->objective, -0.75);
  EXPECT_EQ(found->objective_quantised, -3 * (std::int64_t{1} << 26));
  EXPECT_EQ(found->gap, 0);
}

TEST(AssignmentTest, PrefersTheSumToTheBestEntry) {
  const Instance instance = {2, {1.0F, 0.75F, 0.75F, 0.0F}};
  const auto found = Solve(instance.view());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_THAT(found->permutation, ElementsAre(1, 0));
  EXPECT_EQ(found->objective, 1.5);
}

TEST(AssignmentTest, SumsTheSimilaritiesThatItWasGiven) {
  const Instance instance = {1, {0.1F}};
  const auto found = Solve(instance.view());
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_EQ(found->objective, static_cast<double>(0.1F));
}

TEST(AssignmentTest, RefusesNaN) {
  Instance instance = RandomInstance(40, 8, 1);
  instance.values[47] = std::nanf("");
  const absl::Status status =
      Solve(instance.view()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("similarities"), HasSubstr("row 1 ")));
}

TEST(AssignmentTest, RefusesInfinityInTheTail) {
  Instance instance = RandomInstance(19, 8, 1);
  instance.values[18] = HUGE_VALF;
  EXPECT_EQ(Solve(instance.view()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AssignmentTest, RefusesWhatIsNoSimilarity) {
  const Instance instance = {1, {3.6F}};
  EXPECT_EQ(Solve(instance.view()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AssignmentTest, RefusesARectangle) {
  const Instance instance = {2, {0, 0, 0, 0}};
  MatrixView view = instance.view();
  view.rows = 1;
  EXPECT_EQ(Solve(view).status().code(),
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
  EXPECT_EQ(Solve(instance.view(), context).status().code(),
            absl::StatusCode::kCancelled);
}

// Looks at single rows count, too.
class CancellingMemoryCosts : public CancellingCosts<internal::MemoryCosts> {
 public:
  using CancellingCosts::CancellingCosts;

  const std::int32_t* Row(std::int64_t row) override {
    Count();
    return MemoryCosts::Row(row);
  }
};

// How many of 20 solutions are cancelled that are told so at one of their looks
// at the costs, from the first to the last.
int CountCancelled(const SimilarityMatrix& matrix,
                   const internal::SolverOptions& options) {
  constexpr int kTimes = 20;
  ThreadPool pool(2);
  internal::CoreMemory memory;
  const RunContext wanted;
  CancellingMemoryCosts whole(std::numeric_limits<std::int64_t>::max(), wanted,
                              matrix, pool, memory);
  EXPECT_TRUE(internal::SolveCosts(whole, options, wanted).ok());
  EXPECT_GE(whole.calls(), kTimes);
  int cancelled = 0;
  for (int time = 0; time < kTimes; ++time) {
    const RunContext context;
    CancellingMemoryCosts costs(1 + time * (whole.calls() - 1) / (kTimes - 1),
                                context, matrix, pool, memory);
    cancelled += absl::IsCancelled(
        internal::SolveCosts(costs, options, context).status());
  }
  return cancelled;
}

TEST_P(AssignmentKindTest, IsCancelledWheneverItLooksAtTheCosts) {
  const SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 90, 8));
  internal::SolverOptions dense;
  dense.max_rounds = dense.max_rounds_after_transport = 0;
  EXPECT_EQ(CountCancelled(matrix, internal::SolverOptions()), 20);
  EXPECT_EQ(CountCancelled(matrix, dense), 20);
}

TEST(AssignmentTest, StopsAtItsDeadline) {
  SimilarityMatrix matrix = Quantise(DominantInstance(2048, 16, 9.0F, 1));
  RunContext context;
  context.set_deadline(absl::Now() + absl::Milliseconds(5));
  EXPECT_EQ(Solve(matrix, context).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

// The ways that SolveAssignment takes only for matrices of some kind.
std::int64_t LeastCost(const SimilarityMatrix& matrix,
                       const internal::SolverOptions& options) {
  ThreadPool pool(2);
  internal::CoreMemory memory;
  internal::MemoryCosts costs(matrix, pool, memory);
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
  SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 150, 3));
  internal::SolverOptions options;
  options.max_rounds = options.max_rounds_after_transport = 0;
  EXPECT_EQ(LeastCost(matrix, options), PlainLeastCost(matrix));
}

TEST_P(AssignmentKindTest, IsTheSameFromTransport) {
  SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 150, 4));
  internal::SolverOptions options;
  options.hard_share = 0;
  EXPECT_EQ(LeastCost(matrix, options), PlainLeastCost(matrix));
}

TEST_P(AssignmentKindTest, IsTheSameOnTheThinnestCore) {
  SimilarityMatrix matrix = Quantise(MakeInstance(GetParam(), 60, 5));
  internal::SolverOptions options;
  options.core_per_line = options.arcs_per_violation = 1;
  options.hard_share = options.give_up_share = 2;
  options.max_rounds = 1000;
  EXPECT_EQ(LeastCost(matrix, options), PlainLeastCost(matrix));
}

TEST(AssignmentTest, SortsWhatSortingSolves) {
  SimilarityMatrix matrix =
      Quantise(MakeInstance("rank one", 600, 7));
  ThreadPool pool(2);
  internal::CoreMemory memory;
  internal::MemoryCosts costs(matrix, pool, memory);

  const auto solution = internal::SolveCosts(
      costs, internal::SolverOptions(), RunContext());

  ASSERT_EQ(solution.status(), absl::OkStatus());
  EXPECT_FALSE(solution->effort.transport);
  EXPECT_FALSE(solution->effort.dense);
  EXPECT_LE(solution->effort.rounds, 2);
}

TEST(AssignmentTest, PricesDualsThatNeed64Bits) {
  SimilarityMatrix matrix = Quantise({2, {1.0F, 0.5F, 0.25F, 0.0F}});
  ThreadPool pool(2);
  internal::CoreMemory memory;
  internal::MemoryCosts costs(matrix, pool, memory);
  constexpr std::int64_t kLarge = std::int64_t{1} << 40;
  const auto found = costs.FindViolations(
      {{0, 0}, {kLarge, -kLarge}}, 16, RunContext());
  ASSERT_EQ(found.status(), absl::OkStatus());
  ASSERT_EQ(found->size(), 2U);
  EXPECT_EQ((*found)[1].row, 1);
  ASSERT_EQ((*found)[1].arcs.size(), 1U);
  EXPECT_EQ((*found)[1].arcs[0].column, 0);
}

}  // namespace
}  // namespace moescope::numerics
