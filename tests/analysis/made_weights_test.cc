// Static analyses of checkpoints that no model has: a weight that is no number,
// as few and as short neurons as there can be.
#include <cmath>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/error.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/checkpoint.h"
#include "tests/analysis/analysis_testing.h"
#include "tests/model/make_checkpoint.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::analysis {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsNan;
using ::testing::Not;

class CollectingSink final : public ChunkSink {
 public:
  explicit CollectingSink(Log& log) : log_(log) {}
  absl::Status Emit(spec::Chunk chunk) override {
    log_.chunks.push_back(std::move(chunk));
    return absl::OkStatus();
  }
  absl::Status SaveState(std::string) override { return absl::OkStatus(); }

 private:
  Log& log_;
};

class MadeWeightsTest : public ::testing::Test {
 protected:
  void Make(const std::string& dimensions) {
    ASSERT_EQ(model::MakeCheckpoint(absl::StrCat(
                  "--family mixtral --layers 1 --heads 1 --kv-heads 1 "
                  "--head-dim 2 --experts 2 --top-k 1 --vocab 512 ",
                  dimensions, " --out ", folder_.path())),
              0);
  }

  // Makes a weight of expert 1's gate_proj a NaN of bf16.
  void Spoil(std::int64_t element) {
    const auto checkpoint = *model::Checkpoint::Open(folder_.path());
    const numerics::MatrixView gate =
        (*checkpoint->Expert(0, 1))[model::Projection::kGate];
    const auto& file = checkpoint->weight_files()[0];
    const std::ptrdiff_t offset =
        static_cast<const char*>(gate.data) - file->bytes().data();
    std::fstream bytes(file->path(),
                       std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(offset + 2 * element);
    bytes.write("\xc0\x7f", 2);
  }

  Log Run(spec::AnalysisSpec spec, const std::string& device = "cpu") {
    Log log;
    ModelInputs inputs;
    inputs.device = device;
    inputs.checkpoint = *model::Checkpoint::Open(folder_.path());
    log.status = spec::Normalise(FactsOf(*inputs.checkpoint, "made"), nullptr,
                                 {}, spec);
    ThreadPool pool(1);
    CollectingSink sink(log);
    if (log.status.ok()) {
      log.status = analysis::Run(spec, inputs, {}, pool, RunContext(), sink);
    }
    EXPECT_EQ(SchemaProblem(spec, log), "");
    return log;
  }

  std::vector<double> Values(const Log& log, const std::string& name) {
    return spec::ToDoubles(Join(log).at("layer.0." + name));
  }

 private:
  const ScratchFolder folder_;
};

spec::NeuronPcaSpec Components(std::int64_t dims) {
  spec::NeuronPcaSpec spec;
  spec.model = "made";
  spec.dims = dims;
  spec.outputs = {"scores", "bins"};
  return spec;
}

TEST_F(MadeWeightsTest, ANanMakesComponentsNanAndIsCounted) {
  Make("--hidden 8 --expert-width 4");
  Spoil(5);

  const Log log = Run(Components(3));

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_THAT(Values(log, "gate_proj.nonfinite"), ElementsAre(0, 1));
  EXPECT_THAT(Values(log, "gate_proj.scores"), Each(IsNan()));
  EXPECT_THAT(Values(log, "gate_proj.explained_ratio"), Each(IsNan()));
  EXPECT_THAT(Values(log, "gate_proj.residual"), ElementsAre(IsNan()));
  EXPECT_THAT(Values(log, "gate_proj.bin_ranges"), Each(IsNan()));
  EXPECT_THAT(Values(log, "gate_proj.bin_counts"), Each(0));
  EXPECT_THAT(Values(log, "up_proj.nonfinite"), ElementsAre(0, 0));
  EXPECT_THAT(Values(log, "up_proj.scores"), Each(Not(IsNan())));
}

TEST_F(MadeWeightsTest, ComponentsHaveSmallResiduals) {
  Make("--hidden 64 --expert-width 40");

  const Log log = Run(Components(3));

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_THAT(Values(log, "gate_proj.residual"),
              ElementsAre(::testing::Le(1e-8)));
  EXPECT_THAT(Values(log, "down_proj.residual"),
              ElementsAre(::testing::Le(1e-8)));
}

// Two neurons lie on a line.
TEST_F(MadeWeightsTest, TwoNeuronsHaveOneComponent) {
  Make("--hidden 8 --expert-width 1");

  const Log log = Run(Components(3));

  ASSERT_TRUE(log.status.ok()) << log.status;
  const std::vector<double> ratio = Values(log, "gate_proj.explained_ratio");
  ASSERT_EQ(ratio.size(), 3U);
  EXPECT_NEAR(ratio[0], 1, 1e-6);
  EXPECT_NEAR(ratio[1], 0, 1e-6);
  EXPECT_NEAR(ratio[2], 0, 1e-6);
}

TEST_F(MadeWeightsTest, NeuronsHaveNoMoreComponentsThanTheirLength) {
  Make("--hidden 2 --expert-width 4");

  const Log log = Run(Components(3));

  EXPECT_EQ(log.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(log.status.message(),
            "spec.dims: 3 is more than 2, the length of a neuron of layer 0");
}

TEST_F(MadeWeightsTest, OneNeuronHasNoComponents) {
  Make("--hidden 8 --expert-width 1");
  spec::NeuronPcaSpec asked = Components(2);
  asked.participants = {"1"};

  const Log log = Run(asked);

  EXPECT_EQ(log.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(log.status.message(),
            "spec.participants: have 1 neuron in layer 0, at least 2 are "
            "needed");
}

TEST_F(MadeWeightsTest, ANanSpoilsTheStatisticsOfItsExpertAlone) {
  Make("--hidden 8 --expert-width 4");
  Spoil(9);
  spec::NeuronWeightStatisticsSpec asked;
  asked.model = "made";

  const Log log = Run(asked);

  ASSERT_TRUE(log.status.ok()) << log.status;
  const auto second = ElementsAre(Not(IsNan()), IsNan());
  EXPECT_THAT(Values(log, "gate_proj.nonfinite"), ElementsAre(0, 1));
  EXPECT_THAT(Values(log, "gate_proj.norm_mean"), second);
  EXPECT_THAT(Values(log, "gate_proj.norm_max"), second);
  EXPECT_THAT(Values(log, "gate_proj.frobenius"), second);
  EXPECT_THAT(Values(log, "gate_proj.effective_rank"), second);
  // Element 9 lies in the second of the expert's neurons.
  const std::vector<double> norms = Values(log, "gate_proj.norms");
  ASSERT_EQ(norms.size(), 8U);
  EXPECT_THAT(norms[5], IsNan());
  EXPECT_THAT(norms[4], Not(IsNan()));
}

// "cpu:0": as on a GPU.
TEST_F(MadeWeightsTest, ANanSpoilsTheMatchingOfItsProjectionAlone) {
  Make("--hidden 8 --expert-width 4");
  Spoil(9);
  spec::NeuronMatchingSpec asked;
  asked.model = "made";
  asked.null_draws = 0;

  const Log log = Run(asked);
  const Log on_device = Run(asked, "cpu:0");

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_THAT(Values(log, "gate_proj.nonfinite"), ElementsAre(1));
  EXPECT_THAT(Values(log, "gate_proj.permutation"), Each(-1));
  EXPECT_THAT(Values(log, "up_proj.nonfinite"), ElementsAre(0));
  EXPECT_THAT(Values(log, "joint.objective"), ElementsAre(IsNan()));
  ASSERT_TRUE(on_device.status.ok()) << on_device.status;
  EXPECT_THAT(Values(on_device, "gate_proj.nonfinite"), ElementsAre(1));
  EXPECT_THAT(Values(on_device, "gate_proj.permutation"), Each(-1));
  EXPECT_EQ(Values(on_device, "up_proj.permutation"),
            Values(log, "up_proj.permutation"));
  EXPECT_THAT(Values(on_device, "joint.objective"), ElementsAre(IsNan()));
}

TEST_F(MadeWeightsTest, AnExpertOfOneNeuronHasOneDirection) {
  Make("--hidden 8 --expert-width 1");
  spec::NeuronWeightStatisticsSpec asked;
  asked.model = "made";

  const Log log = Run(asked);

  ASSERT_TRUE(log.status.ok()) << log.status;
  EXPECT_EQ(Values(log, "up_proj.norm_std"), std::vector<double>({0, 0}));
  EXPECT_THAT(Values(log, "up_proj.effective_rank"),
              Each(::testing::DoubleNear(1, 1e-12)));
  EXPECT_EQ(Values(log, "up_proj.norm_min"), Values(log, "up_proj.norm_max"));
}

}  // namespace
}  // namespace moescope::analysis
