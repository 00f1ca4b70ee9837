#include "server/model/resident_matrix_internal.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/model/torch_tensor_internal.h"

namespace moescope::model::internal {
namespace {

using numerics::ElementType;
using numerics::MatrixView;
using Widening = ResidentMatrix::Widening;

// Random bytes: every code is among them, those that are NaN too.
std::vector<std::uint8_t> RandomBytes(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  std::mt19937 random(11);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

struct Stored {
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> scales;
  MatrixView view;
};

// Blocks of 16 by 32, cut off at the edges; every second row of its memory.
std::unique_ptr<Stored> Float8(numerics::ScaleType type) {
  auto stored = std::make_unique<Stored>();
  stored->codes = RandomBytes(2 * 37 * 75);
  const std::vector<float> scales = {1.5F, -0.3F,  1e-3F, 7.0F, 0.1F,
                                     2.0F, 1e-20F, 9.0F,  0.7F};
  stored->scales.resize(scales.size() * sizeof(float));
  std::memcpy(stored->scales.data(), scales.data(), stored->scales.size());
  stored->view.data = stored->codes.data() + 75;
  stored->view.type = ElementType::kFloat8E4M3;
  stored->view.rows = 37;
  stored->view.cols = 75;
  stored->view.row_stride = 2 * 75;
  stored->view.scales.data = stored->scales.data();
  stored->view.scales.type = type;
  stored->view.scales.block_rows = 16;
  stored->view.scales.block_cols = 32;
  stored->view.scales.row_stride = 3;
  return stored;
}

// Interleaved rows, as gate lies beside up; scales 0 … 255.
std::unique_ptr<Stored> Mxfp4() {
  auto stored = std::make_unique<Stored>();
  stored->codes = RandomBytes(2 * 128 * 32);
  for (int i = 0; i < 2 * 128 * 2; ++i) {
    stored->scales.push_back(static_cast<std::uint8_t>(i));
  }
  stored->view.data = stored->codes.data();
  stored->view.type = ElementType::kFloat4E2M1;
  stored->view.rows = 128;
  stored->view.cols = 64;
  stored->view.row_stride = 2 * 64;
  stored->view.scales.data = stored->scales.data();
  stored->view.scales.type = numerics::ScaleType::kExponent8;
  stored->view.scales.block_cols = 32;
  stored->view.scales.row_stride = 4;
  return stored;
}

at::Tensor Widen(const ResidentMatrix& matrix) {
  at::Tensor out = at::empty({matrix.size(0), matrix.size(1)}, at::kFloat);
  matrix.WidenTo(out);
  return out;
}

at::Tensor Expected(const MatrixView& view) {
  at::Tensor out = at::empty({view.rows, view.cols}, at::kFloat);
  numerics::WidenRows(view, 0, view.rows, out.data_ptr<float>());
  return out;
}

bool Same(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() &&
         at::allclose(a, b, /*rtol=*/0, /*atol=*/0, /*equal_nan=*/true);
}

struct Way {
  const char* name;
  std::unique_ptr<Stored> (*make)();
  Widening widening;
};

class QuantisedTest : public ::testing::TestWithParam<Way> {};

TEST_P(QuantisedTest, WidensWhatIsAskedForAndNothingElse) {
  const auto stored = GetParam().make();
  const at::Tensor expected = Expected(stored->view);

  const ResidentMatrix matrix(stored->view, nullptr, at::kCPU,
                              GetParam().widening);

  EXPECT_TRUE(matrix.defined());
  EXPECT_TRUE(Same(Widen(matrix), expected));
  EXPECT_TRUE(Same(Widen(matrix.narrow(0, 5, 20)), expected.narrow(0, 5, 20)));
  EXPECT_TRUE(Same(Widen(matrix.narrow(1, 31, 4)), expected.narrow(1, 31, 4)));
  EXPECT_TRUE(Same(Widen(matrix.narrow(0, 3, 9).narrow(1, 7, 29).narrow(0, 2, 3)),
                   expected.narrow(0, 5, 3).narrow(1, 7, 29)));
}

INSTANTIATE_TEST_SUITE_P(
    Ways, QuantisedTest,
    ::testing::Values(
        Way{"float8_host",
            [] { return Float8(numerics::ScaleType::kFloat32); },
            Widening::kHost},
        Way{"float8_torch",
            [] { return Float8(numerics::ScaleType::kFloat32); },
            Widening::kTorch},
        Way{"float8_bfloat16_scales_torch",
            [] { return Float8(numerics::ScaleType::kBFloat16); },
            Widening::kTorch},
        Way{"float8_transposed_torch",
            [] {
              auto stored = Float8(numerics::ScaleType::kFloat32);
              stored->view = numerics::Transposed(stored->view);
              return stored;
            },
            Widening::kTorch},
        Way{"mxfp4_host", &Mxfp4, Widening::kHost},
        Way{"mxfp4_torch", &Mxfp4, Widening::kTorch}),
    [](const auto& way) { return std::string(way.param.name); });

// 1 … 24 in bf16, which has them exactly, `offset` bytes past an even address.
struct BFloat16s {
  explicit BFloat16s(std::size_t offset) : bytes(48 + offset) {
    for (int i = 0; i < 24; ++i) {
      const auto value = static_cast<float>(i + 1);
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      const auto narrow = static_cast<std::uint16_t>(bits >> 16);
      std::memcpy(bytes.data() + offset + 2 * i, &narrow, sizeof narrow);
    }
    // Two interleaved matrices [3, 4], transposed in memory: rows are every
    // second column.
    view = {bytes.data() + offset, ElementType::kBFloat16, 3, 4, 2, 6};
  }
  std::vector<std::uint8_t> bytes;
  MatrixView view;
};

TEST(ResidentMatrixTest, ReadsStridedPlainNumbersEitherWay) {
  const BFloat16s stored(0);
  const at::Tensor expected = Expected(stored.view);

  const ResidentMatrix host(stored.view, nullptr, at::kCPU, Widening::kHost);
  const ResidentMatrix torch(stored.view, nullptr, at::kCPU, Widening::kTorch);

  EXPECT_EQ(expected[2][3].item<float>(), 4 + 18 + 1);
  EXPECT_TRUE(Same(Widen(host), expected));
  EXPECT_TRUE(Same(Widen(torch), expected));
  EXPECT_TRUE(Same(Widen(host.narrow(1, 1, 2)), expected.narrow(1, 1, 2)));
  EXPECT_TRUE(Same(Widen(torch.narrow(1, 1, 2)), expected.narrow(1, 1, 2)));
}

TEST(ResidentMatrixTest, ReadsStridedNumbersWithoutAlignment) {
  const BFloat16s stored(1);

  const ResidentMatrix torch(stored.view, nullptr, at::kCPU, Widening::kTorch);

  EXPECT_TRUE(Same(Widen(torch), Expected(stored.view)));
}

TEST(ResidentMatrixTest, LeavesDenseMatricesWhereTheyAre) {
  const std::vector<float> values(12, 2.5F);
  const MatrixView view = {values.data(), ElementType::kFloat32, 3, 4, 4};

  EXPECT_EQ(MakeResident(view, nullptr, at::kCPU).data_ptr(), values.data());
}

TEST(ResidentMatrixTest, KeepsTheOwnerOfItsMemory) {
  std::shared_ptr<Stored> stored = Mxfp4();
  const MatrixView view = stored->view;
  const std::weak_ptr<Stored> watch = stored;
  ResidentMatrix matrix(view, std::move(stored), at::kCPU);

  EXPECT_FALSE(watch.expired());
  matrix = ResidentMatrix();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace moescope::model::internal
