#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "server/model/forward_kernels_internal.h"
#include "server/model/torch_tensor_internal.h"
#include "tests/model/forward_testing.h"

#include "moescope/base/error.h"
#include "moescope/numerics/instruction_set.h"

namespace moescope::model {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ForwardErrorTest : public testing::Test {
 protected:
  ForwardErrorTest() : model_(LoadTestModel("fixtures/mixtral")) {
    request_.layers = {0};
  }

  absl::Status Run(std::vector<std::int32_t> ids,
                   std::vector<std::int64_t> lengths) {
    ThreadPool pool(2);
    return model_->Forward({ids, lengths}, request_, observer_, pool, context_);
  }

  std::shared_ptr<const Model> model_;
  ForwardRequest request_;
  RecordingObserver observer_;
  RunContext context_;
};

std::string FieldOf(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  return details.fields.size() == 1 ? details.fields[0].field : "";
}

TEST_F(ForwardErrorTest, AnEmptyBatchIsRefused) {
  const absl::Status status = Run({}, {});

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "tokens");
}

TEST_F(ForwardErrorTest, AnIdBeyondTheVocabularyIsNamed) {
  const absl::Status status = Run({1, 128}, {2});

  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(FieldOf(status), "tokens");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("id 128 at position 1 is outside [0, 127]"));
}

TEST_F(ForwardErrorTest, ANegativeIdIsRefused) {
  EXPECT_EQ(Run({-1}, {1}).code(), absl::StatusCode::kOutOfRange);
}

TEST_F(ForwardErrorTest, ASequenceBeyondTheModelsPositionsIsRefused) {
  const absl::Status status = Run(std::vector<std::int32_t>(65, 1), {65});

  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(FieldOf(status), "tokens");
  EXPECT_THAT(std::string(status.message()), HasSubstr("65 tokens"));
}

TEST_F(ForwardErrorTest, LengthsMustSumUpToTheIds) {
  const absl::Status status = Run({1, 2, 3}, {2});

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "tokens");
}

TEST_F(ForwardErrorTest, AnEmptySequenceIsRefused) {
  const absl::Status status = Run({1, 2}, {2, 0});

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "tokens");
}

TEST_F(ForwardErrorTest, ALayerBeyondTheModelIsRefused) {
  request_.layers = {1, 2};

  const absl::Status status = Run({1}, {1});

  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(FieldOf(status), "layers");
}

TEST_F(ForwardErrorTest, LayersMustRise) {
  request_.layers = {1, 1};

  EXPECT_EQ(Run({1}, {1}).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ForwardErrorTest, ACancelledPassEndsWithTheReason) {
  context_.token().Cancel(absl::CancelledError("no longer wanted"));

  const absl::Status status = Run({1}, {1});

  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(status.message(), "no longer wanted");
}

// Cancels at the first routing that it sees.
class CancellingObserver final : public ForwardObserver {
 public:
  explicit CancellingObserver(RunContext& context) : context_(context) {}
  absl::Status OnRouting(const LayerRouting& /*routing*/) override {
    ++routings;
    context_.token().Cancel(absl::CancelledError("enough"));
    return absl::OkStatus();
  }
  absl::Status OnExpertRows(const ExpertRows& /*rows*/) override {
    ++expert_rows;
    return absl::OkStatus();
  }
  int routings = 0;
  int expert_rows = 0;

 private:
  RunContext& context_;
};

TEST_F(ForwardErrorTest, CancellingInTheMiddleStopsBeforeTheNextTile) {
  CancellingObserver observer(context_);
  request_.layers = {0, 1};
  request_.all_experts = true;
  const std::vector<std::int32_t> ids = {1, 2, 3};
  const std::vector<std::int64_t> lengths = {3};
  ThreadPool pool(2);

  const absl::Status status =
      model_->Forward({ids, lengths}, request_, observer, pool, context_);

  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(observer.routings, 1);
  EXPECT_EQ(observer.expert_rows, 0);
}

// Fails in its own way.
class FailingObserver final : public ForwardObserver {
 public:
  absl::Status OnExpertRows(const ExpertRows& rows) override {
    return rows.expert == 3 ? absl::AbortedError("expert 3") : absl::OkStatus();
  }
};

TEST_F(ForwardErrorTest, AnObserversStatusEndsThePass) {
  FailingObserver observer;
  request_.all_experts = true;
  const std::vector<std::int32_t> ids = {1, 2, 3};
  const std::vector<std::int64_t> lengths = {3};
  ThreadPool pool(2);

  const absl::Status status =
      model_->Forward({ids, lengths}, request_, observer, pool, context_);

  EXPECT_EQ(status, absl::AbortedError("expert 3"));
}

TEST(RunTorchTest, ATorchExceptionBecomesInternal) {
  const absl::Status status = internal::RunTorch(at::kCPU, [] {
    at::mm(at::zeros({2, 3}), at::zeros({2, 3}));
    return absl::OkStatus();
  });

  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), StartsWith("torch: "));
}

TEST(RunTorchTest, MemoryThatIsNotThereBecomesResourceExhausted) {
  const absl::Status status = internal::RunTorch(at::kCPU, [] {
    at::empty({std::int64_t{1} << 55});
    return absl::OkStatus();
  });

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetails(status).reason, "OUT_OF_DEVICE_MEMORY");
}

TEST(RunTorchTest, AnyOtherExceptionBecomesInternal) {
  const absl::Status status = internal::RunTorch(
      at::kCPU, []() -> absl::Status { throw std::runtime_error("bad"); });

  EXPECT_EQ(status, absl::InternalError("torch: bad"));
}

TEST(MakeResidentTest, UnalignedBytesAreCopied) {
  // Values 1, 2, 3, 4 from an odd address on, rows of three elements.
  std::vector<std::byte> bytes(64);
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  std::byte* const odd = bytes.data() + (address % 2 == 0 ? 1 : 0);
  const std::vector<float> values = {1, 2, 9, 3, 4, 9};
  std::memcpy(odd, values.data(), values.size() * sizeof(float));
  const numerics::MatrixView view{odd, numerics::ElementType::kFloat32, 2, 2,
                                  3};

  const at::Tensor resident = internal::MakeResident(view, nullptr, at::kCPU);

  EXPECT_TRUE(
      resident.equal(at::tensor({1.0F, 2.0F, 3.0F, 4.0F}).view({2, 2})));
}

TEST(MakeResidentTest, AlignedBytesAreUsedInPlaceAndKeepTheirOwner) {
  const auto owner = std::make_shared<std::vector<float>>(6, 1.0F);
  const numerics::MatrixView view{owner->data(),
                                  numerics::ElementType::kFloat32, 2, 3, 3};

  const at::Tensor resident = internal::MakeResident(view, owner, at::kCPU);

  EXPECT_EQ(resident.data_ptr(), owner->data());
  EXPECT_EQ(owner.use_count(), 2);
}

TEST(ModelTest, EstimatesTheBytesOfTheWeightsThatAPassReads) {
  const auto checkpoint = Checkpoint::Open(TestData("models/tiny-mixtral"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  const MemoryEstimate estimate = Model::Estimate(**checkpoint, "cpu");

  EXPECT_EQ(estimate.weight_bytes, 5545600 * 2);  // bf16 parameters
  EXPECT_GT(estimate.workspace_bytes, 0);
}

TEST(ResolveDeviceTest, TheProcessorIsAlwaysThere) {
  EXPECT_EQ(*ResolveDevice("cpu"), "cpu");
}

TEST(ResolveDeviceTest, AnUnknownDeviceIsRefusedWithThoseThereAre) {
  const auto device = ResolveDevice("tpu:0");

  EXPECT_EQ(device.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(device.status()), "device");
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("cpu"));
}

TEST(ResolveDeviceTest, AGpuThatIsNotThereIsRefused) {
  EXPECT_EQ(ResolveDevice("cuda:99").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(NumericsClassTest, NamesTheFixedShapesAndTheLibraries) {
  const std::string name = NumericsClass("cpu");

  EXPECT_THAT(name, StartsWith("fp32 cpu "));
  EXPECT_THAT(name, HasSubstr(" tile=64x512x64 "));
  EXPECT_THAT(name, HasSubstr(" torch="));
  EXPECT_THAT(name, HasSubstr(" blas="));
  EXPECT_THAT(name, HasSubstr(" kernels="));
  EXPECT_THAT(name, HasSubstr(" neurons="));
}

TEST(NumericsClassTest, NamesTheMatchingOnAGpu) {
  EXPECT_THAT(NumericsClass("cuda:0"), HasSubstr(" matching="));
  EXPECT_THAT(NumericsClass("cpu"), Not(HasSubstr(" matching=")));
}

TEST(NumericsClassTest, DiffersWithTheInstructionSetOfTheKernels) {
  std::set<std::string> classes;
  const std::vector<std::string> sets = numerics::AvailableInstructionSets();
  for (const std::string& name : sets) {
    ASSERT_TRUE(numerics::ForceInstructionSetForTest(name).ok());
    classes.insert(NumericsClass("cpu"));
    EXPECT_THAT(NumericsClass("cpu"), HasSubstr(" kernels=" + name + "/"));
  }
  ASSERT_TRUE(numerics::ForceInstructionSetForTest("").ok());

  EXPECT_EQ(classes.size(), sets.size());
}

}  // namespace
}  // namespace moescope::model
