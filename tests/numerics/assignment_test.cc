#include "moescope/numerics/assignment.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
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

// On the calling thread alone.
absl::StatusOr<Assignment> Solve(SimilarityMatrix& matrix,
                                 const RunContext& context = RunContext()) {
  ThreadPool pool(1);
  return SolveAssignment(matrix, pool, context);
}

absl::StatusOr<Assignment> Solve(const MatrixView& similarities,
                                 const RunContext& context = RunContext()) {
  ThreadPool pool(1);
  SimilarityMatrix memory;
  return SolveAssignment(similarities, pool, context, memory);
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

std::string TestName(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
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

// Costs in memory that cancel the work when they are asked for the k-th time,
// in the middle of what the solver does.
class CancellingCosts : public internal::MemoryCosts {
 public:
  CancellingCosts(const SimilarityMatrix& matrix, ThreadPool& pool,
                  internal::CoreMemory& memory, std::int64_t call,
                  const RunContext& context)
      : MemoryCosts(matrix, pool, memory), call_(call), context_(context) {}

  std::int64_t calls() const { return calls_; }

  absl::StatusOr<internal::Core> ChooseCore(
      const std::vector<std::int32_t>& row_shift,
      const std::vector<std::int32_t>& column_shift, std::int64_t count,
      const RunContext& context) override {
    Count();
    return MemoryCosts::ChooseCore(row_shift, column_shift, count, context);
  }
  absl::StatusOr<std::vector<internal::Violation>> FindViolations(
      const internal::Duals& duals, std::int64_t count,
      const RunContext& context) override {
    Count();
    return MemoryCosts::FindViolations(duals, count, context);
  }
  absl::StatusOr<std::vector<std::int64_t>> RowMinima(
      const std::vector<std::int64_t>& column_duals,
      const RunContext& context) override {
    Count();
    return MemoryCosts::RowMinima(column_duals, context);
  }
  const std::int32_t* Row(std::int64_t row) override {
    Count();
    return MemoryCosts::Row(row);
  }

 private:
  void Count() {
    if (++calls_ == call_) {
      context_.token().Cancel(absl::CancelledError("enough"));
    }
  }

  // Rows are asked for by several threads.
  std::atomic<std::int64_t> calls_{0};
  const std::int64_t call_;
  const RunContext& context_;
};

// How many of 20 solutions are cancelled that are told so at one of their looks
// at the costs, from the first to the last.
int CountCancelled(const SimilarityMatrix& matrix,
                   const internal::SolverOptions& options) {
  constexpr int kTimes = 20;
  ThreadPool pool(2);
  internal::CoreMemory memory;
  const RunContext wanted;
  CancellingCosts whole(matrix, pool, memory,
                        std::numeric_limits<std::int64_t>::max(), wanted);
  EXPECT_TRUE(internal::SolveCosts(whole, options, wanted).ok());
  EXPECT_GE(whole.calls(), kTimes);
  int cancelled = 0;
  for (int time = 0; time < kTimes; ++time) {
    const RunContext context;
    CancellingCosts costs(matrix, pool, memory,
                          1 + time * (whole.calls() - 1) / (kTimes - 1),
                          context);
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

// Numbers without order, some of them equal.
std::vector<std::int32_t> Scattered(std::int64_t count) {
  std::vector<std::int32_t> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<std::int32_t>(i * 7919 % 211) - 100);
  }
  return values;
}

TEST_P(AssignmentKernelTest, LowersMinimaOfColumnsAndOfGroups) {
  constexpr std::int64_t kCount = 117;
  const std::vector<std::int32_t> row = Scattered(kCount);
  const std::vector<std::int32_t> shift(kCount, 3);
  std::vector<std::int32_t> least(kCount, -40);
  std::vector<std::int32_t> groups(internal::kBoundGroups);
  internal::LowerMinima(row.data(), row.data(), 5, shift.data(), kCount,
                        least.data(), groups.data());
  std::vector<std::int32_t> expected;
  for (const std::int32_t cost : row) {
    expected.push_back(std::min(-40, cost - 5));
  }
  EXPECT_EQ(least, expected);
  // Whatever the groups are, the least number is in one of them, and each has a
  // number of the row.
  EXPECT_EQ(*std::min_element(groups.begin(), groups.end()),
            *std::min_element(row.begin(), row.end()) - 3);
  EXPECT_TRUE(std::all_of(groups.begin(), groups.end(), [&](std::int32_t g) {
    return std::find(row.begin(), row.end(), g + 3) != row.end();
  }));
}

TEST_P(AssignmentKernelTest, LeavesGroupsWithoutColumnsEmpty) {
  const std::vector<std::int32_t> row = {4, 2, 6};
  const std::vector<std::int32_t> shift = {0, 0, 5};
  std::vector<std::int32_t> least(3, 100);
  std::vector<std::int32_t> groups(internal::kBoundGroups);
  internal::LowerMinima(row.data(), row.data(), 1, shift.data(), 3,
                        least.data(), groups.data());
  std::sort(groups.begin(), groups.end());
  EXPECT_THAT(least, ElementsAre(3, 1, 5));
  EXPECT_THAT(std::vector<std::int32_t>(groups.begin(), groups.begin() + 3),
              ElementsAre(1, 2, 4));
  EXPECT_EQ(groups[3], std::numeric_limits<std::int32_t>::max());
}

TEST_P(AssignmentKernelTest, FindsTheNthOfGroups) {
  std::vector<std::int32_t> values = Scattered(internal::kBoundGroups);
  values[3] = values[20] = values[21];
  const std::int32_t fifth = internal::NthOfGroups(values.data(), 4);
  const std::int32_t last = internal::NthOfGroups(values.data(), 31);
  std::sort(values.begin(), values.end());
  EXPECT_EQ(fifth, values[4]);
  EXPECT_EQ(last, values[31]);
}

TEST_P(AssignmentKernelTest, FindsTheNthOfEachColumn) {
  constexpr std::int64_t kColumns = 21;
  constexpr std::int64_t kStride = 23;
  const std::vector<std::int32_t> values =
      Scattered(internal::kBoundGroups * kStride);
  std::vector<std::int32_t> found(kColumns);
  internal::NthOfEachColumn(values.data(), kStride, kColumns, 15,
                            found.data());
  std::vector<std::int32_t> expected;
  for (std::int64_t j = 0; j < kColumns; ++j) {
    std::vector<std::int32_t> column;
    for (std::int64_t g = 0; g < internal::kBoundGroups; ++g) {
      column.push_back(values[static_cast<std::size_t>(g * kStride + j)]);
    }
    std::sort(column.begin(), column.end());
    expected.push_back(column[15]);
  }
  EXPECT_EQ(found, expected);
}

// The columns that row i's arcs must have: its own, its best, and those that
// have it among their best, by sorting.
std::vector<std::int32_t> PlainArcs(const SimilarityMatrix& matrix,
                                    const std::vector<std::int32_t>& shift,
                                    std::int64_t i, std::int64_t count) {
  const std::int64_t n = matrix.size();
  using Candidate = std::pair<std::int64_t, std::int64_t>;
  const auto has = [&](std::vector<Candidate> all, std::int64_t place) {
    std::sort(all.begin(), all.end());
    all.resize(static_cast<std::size_t>(std::min(n, count)));
    return std::any_of(all.begin(), all.end(), [&](const Candidate& one) {
      return one.second == place;
    });
  };
  std::vector<Candidate> row;
  for (std::int64_t j = 0; j < n; ++j) {
    row.emplace_back(matrix.cost(i, j) - shift[static_cast<std::size_t>(j)],
                     (j - i + n) % n);
  }
  std::vector<std::int32_t> columns;
  for (std::int64_t j = 0; j < n; ++j) {
    std::vector<Candidate> column;
    for (std::int64_t k = 0; k < n; ++k) {
      column.emplace_back(
          matrix.cost(k, j) - shift[static_cast<std::size_t>(k)], k);
    }
    if (j == i || has(row, (j - i + n) % n) || has(column, i)) {
      columns.push_back(static_cast<std::int32_t>(j));
    }
  }
  return columns;
}

// Rows of 24 kinds whose arcs are those that sorting finds; rows and columns
// have the same shifts.
TEST_P(AssignmentKernelTest, ChoosesTheBestOfRowsAndColumnsWhateverTheMatrix) {
  constexpr std::int64_t kSize = 130;
  ThreadPool pool(2);
  internal::CoreMemory memory;
  for (const std::string& kind : InstanceKinds()) {
    const SimilarityMatrix matrix = Quantise(MakeInstance(kind, kSize, 11));
    std::vector<std::int32_t> shift = Scattered(kSize);
    internal::MemoryCosts costs(matrix, pool, memory);
    const auto core = costs.ChooseCore(shift, shift, 7, RunContext());
    ASSERT_EQ(core.status(), absl::OkStatus());
    for (const std::int64_t i : {0, 1, 64, 129}) {
      std::vector<std::int32_t> columns;
      for (const internal::Arc& arc :
           core->rows[static_cast<std::size_t>(i)]) {
        columns.push_back(arc.column);
        EXPECT_EQ(arc.cost, matrix.cost(i, arc.column));
      }
      EXPECT_EQ(columns, PlainArcs(matrix, shift, i, 7)) << kind << " " << i;
    }
  }
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
  SimilarityMatrix matrix = Quantise(DominantInstance(203, 16, 4.0F, 1));
  const auto found = Solve(matrix);
  ASSERT_EQ(found.status(), absl::OkStatus());
  EXPECT_EQ(-found->objective_quantised, PlainLeastCost(matrix));
}

}  // namespace
}  // namespace moescope::numerics
