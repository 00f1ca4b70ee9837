#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/benchmarks/comparison.h"

#include "moescope/base/run_context.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/assignment.h"
#include "moescope/numerics/cosine.h"
#include "moescope/numerics/gram.h"
#include "moescope/numerics/linear_regression.h"
#include "moescope/numerics/mantel.h"
#include "moescope/numerics/matrix_view.h"
#include "moescope/numerics/neuron_cosine.h"
#include "moescope/numerics/principal_components.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::benchmarks {
namespace {

using numerics::MatrixView;
using nlohmann::json;

// Gaussian matrices in bf16, as the baseline has them: N of [rows, cols].
class Weights {
 public:
  Weights(std::int64_t n, std::int64_t rows, std::int64_t cols) {
    std::mt19937_64 generator(1);
    std::normal_distribution<float> normal(0.0F, 0.02F);
    for (std::int64_t i = 0; i < n; ++i) {
      memory_.emplace_back(static_cast<std::size_t>(rows * cols));
      for (std::uint16_t& value : memory_.back()) {
        value = ToBfloat16(normal(generator));
      }
      views_.push_back({memory_.back().data(),
                        numerics::ElementType::kBFloat16, rows, cols, cols});
    }
  }
  const std::vector<MatrixView>& views() const { return views_; }

 private:
  // Truncated: which of the two neighbours it is does not matter here.
  static std::uint16_t ToBfloat16(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>(bits >> 16);
  }

  std::vector<std::vector<std::uint16_t>> memory_;
  std::vector<MatrixView> views_;
};

struct Shape {
  std::int64_t experts = 0;
  std::int64_t neurons = 0;
  std::int64_t width = 0;
};

json BaselineShape(const Shape& shape) {
  return {{"E", shape.experts},
          {"F", shape.neurons},
          {"D", shape.width},
          {"dtype", "bf16"}};
}

std::string Name(const Shape& shape) {
  return absl::StrCat("E=", shape.experts, ", ", shape.width, "×",
                      shape.neurons, " bf16");
}

Comparison MatrixCosine(const Shape& shape, double demand) {
  return {"matrix cosine, all pairs",
          Name(shape),
          demand,
          {{"matrix_cosine", BaselineShape(shape)}},
          false,
          [shape](const Workbench& bench) -> absl::StatusOr<TimedWork> {
            const auto weights = std::make_shared<Weights>(
                shape.experts, shape.neurons, shape.width);
            return [weights, &pool = bench.pool]() -> absl::Status {
              MOESCOPE_ASSIGN_OR_RETURN(
                  const numerics::GramResult gram,
                  numerics::ComputeGram(weights->views(), {}, pool,
                                        RunContext()));
              return numerics::CosinesFromGram(gram.gram, gram.participants)
                  .status();
            };
          }};
}

Comparison CosineAndAverage(const Shape& shape, double demand) {
  return {"matrix cosine and neuron average, fused",
          Name(shape),
          demand,
          {{"matrix_cosine_and_neuron_average", BaselineShape(shape)}},
          false,
          [shape](const Workbench& bench) -> absl::StatusOr<TimedWork> {
            const auto weights = std::make_shared<Weights>(
                shape.experts, shape.neurons, shape.width);
            return [weights, &pool = bench.pool]() -> absl::Status {
              numerics::GramOptions options;
              options.mean_row = true;
              MOESCOPE_ASSIGN_OR_RETURN(
                  const numerics::GramResult gram,
                  numerics::ComputeGram(weights->views(), options, pool,
                                        RunContext()));
              MOESCOPE_RETURN_IF_ERROR(
                  numerics::CosinesFromGram(gram.gram, gram.participants)
                      .status());
              return numerics::RowCosines(gram.mean_row, gram.participants,
                                          gram.cols)
                  .status();
            };
          }};
}

// Similarities come from the other side, so that both solve the same matrix.
// Ours includes the image in fixed point.
Comparison AssignmentOf(std::int64_t neurons, const std::string& kind,
                        double demand) {
  const BaselineRow row = {
      "assignment", {{"F", neurons}, {"kind", kind}, {"dtype", "f64"}}};
  return {absl::StrCat("assignment, ", kind),
          absl::StrCat("F=", neurons),
          demand,
          {row},
          neurons > 4096,
          [row, neurons](const Workbench& bench) -> absl::StatusOr<TimedWork> {
            MOESCOPE_ASSIGN_OR_RETURN(std::vector<float> values,
                                      bench.baseline.Similarity(row));
            const auto matrix =
                std::make_shared<const std::vector<float>>(std::move(values));
            const auto memory = std::make_shared<numerics::SimilarityMatrix>();
            return [matrix, memory, neurons,
                    &pool = bench.pool]() -> absl::Status {
              MOESCOPE_ASSIGN_OR_RETURN(
                  const numerics::Assignment assignment,
                  numerics::SolveAssignment(
                      MatrixView{matrix->data(),
                                 numerics::ElementType::kFloat32, neurons,
                                 neurons, neurons},
                      pool, RunContext(), *memory));
              return assignment.gap == 0
                         ? absl::OkStatus()
                         : absl::InternalError("not proven optimal");
            };
          }};
}

// Cosines, assignment, Kendall's tau and the flattened cosine after permuting.
Comparison NeuronMatching(std::int64_t neurons, std::int64_t width,
                          double demand) {
  return {"neuron matching, one pair end to end",
          absl::StrCat("F=", neurons, ", D=", width, " bf16"),
          demand,
          {{"neuron_matching",
            {{"F", neurons},
             {"D", width},
             {"dtype", "bf16"},
             {"projection", "down_proj"}}}},
          false,
          [neurons, width](const Workbench& bench) -> absl::StatusOr<TimedWork> {
            const auto weights = std::make_shared<Weights>(2, width, neurons);
            const auto matrix = std::make_shared<numerics::SimilarityMatrix>();
            return [weights, matrix, &pool = bench.pool]() -> absl::Status {
              const numerics::NeuronPair pair = {
                  numerics::Transposed(weights->views()[0]),
                  numerics::Transposed(weights->views()[1])};
              MOESCOPE_RETURN_IF_ERROR(
                  numerics::FillCosines({pair}, pool, RunContext(), *matrix));
              MOESCOPE_ASSIGN_OR_RETURN(
                  const numerics::Assignment assignment,
                  numerics::SolveAssignment(*matrix, pool, RunContext()));
              (void)numerics::KendallTauToIdentity(assignment.permutation);
              return numerics::CompareMatched(pair, assignment.permutation,
                                              pool, RunContext())
                  .status();
            };
          }};
}

// The router map of E rows, and its regression on a map per projection.
Comparison RouterRegression(std::int64_t experts, std::int64_t width,
                            double demand) {
  return {"router similarity and regression",
          absl::StrCat("E=", experts, ", ", experts, "×", width),
          demand,
          {{"router_cosine",
            {{"E", experts}, {"D", width}, {"dtype", "bf16"}}},
           {"router_regression", {{"E", experts}, {"projections", 3}}}},
          false,
          [experts, width](const Workbench&) -> absl::StatusOr<TimedWork> {
            const auto router = std::make_shared<Weights>(1, experts, width);
            const auto averages = std::make_shared<Weights>(3, experts, width);
            std::vector<std::vector<double>> maps;
            for (const MatrixView& rows : averages->views()) {
              MOESCOPE_ASSIGN_OR_RETURN(const std::vector<double> map,
                                        numerics::RowCosines(rows));
              maps.push_back(map);
            }
            return [router, maps, experts]() -> absl::Status {
              MOESCOPE_ASSIGN_OR_RETURN(
                  const std::vector<double> map,
                  numerics::RowCosines(router->views()[0]));
              const std::vector<double> x =
                  numerics::LowerTriangle(map, experts);
              for (const std::vector<double>& y : maps) {
                MOESCOPE_RETURN_IF_ERROR(
                    numerics::FitLine(x, numerics::LowerTriangle(y, experts))
                        .status());
              }
              return absl::OkStatus();
            };
          }};
}

Comparison MatrixPca(std::int64_t matrices, std::int64_t rows,
                     std::int64_t cols, double demand) {
  return {"matrix PCA",
          absl::StrCat(matrices, " × ", rows * cols),
          demand,
          {{"matrix_pca", {{"N", matrices}, {"coordinates", rows * cols}}}},
          false,
          [=](const Workbench& bench) -> absl::StatusOr<TimedWork> {
            const auto weights = std::make_shared<Weights>(matrices, rows, cols);
            return [weights, &pool = bench.pool]() -> absl::Status {
              numerics::GramOptions options;
              options.gram = false;
              options.standardised_gram = true;
              MOESCOPE_ASSIGN_OR_RETURN(
                  const numerics::GramResult gram,
                  numerics::ComputeGram(weights->views(), options, pool,
                                        RunContext()));
              return numerics::ComponentsFromGram(gram.standardised_gram,
                                                  gram.participants, 2)
                  .status();
            };
          }};
}

Comparison NeuronPca(std::int64_t neurons, std::int64_t width, double demand) {
  constexpr std::int64_t kParts = 8;
  return {"neuron PCA",
          absl::StrCat(neurons, " × ", width),
          demand,
          {{"neuron_pca", {{"neurons", neurons}, {"D", width}}}},
          false,
          [=](const Workbench& bench) -> absl::StatusOr<TimedWork> {
            const auto weights =
                std::make_shared<Weights>(kParts, neurons / kParts, width);
            return [weights, &pool = bench.pool]() -> absl::Status {
              return numerics::ComputeNeuronComponents(
                         weights->views(), numerics::NeuronAxis::kRows, 2, pool,
                         RunContext())
                  .status();
            };
          }};
}

}  // namespace

std::vector<Comparison> StaticComparisons() {
  const Shape few = {8, 3584, 1024};
  const Shape many = {64, 1408, 256};
  return {
      MatrixCosine(few, 20),
      MatrixCosine(many, 30),
      CosineAndAverage(few, 15),
      RouterRegression(64, 2048, 50),
      NeuronMatching(1408, 2048, 80),
      AssignmentOf(1408, "random", 3),
      AssignmentOf(4096, "random", 8),
      AssignmentOf(8192, "random", 15),
      AssignmentOf(14336, "random", 25),
      AssignmentOf(1408, "structured", 5),
      AssignmentOf(4096, "structured", 20),
      AssignmentOf(8192, "structured", 50),
      AssignmentOf(1408, "dominant", 5),
      AssignmentOf(4096, "dominant", 20),
      MatrixPca(9, 3584, 1024, 80),
      NeuronPca(16384, 1024, 6),
  };
}

}  // namespace moescope::benchmarks
