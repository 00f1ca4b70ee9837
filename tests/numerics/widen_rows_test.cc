#include "moescope/numerics/widen_rows.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "moescope/numerics/cosine.h"
#include "moescope/numerics/effective_rank.h"
#include "moescope/numerics/gram.h"
#include "tests/numerics/matrices.h"

namespace moescope::numerics {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsNan;
using ::testing::NanSensitiveFloatEq;
using ::testing::Pointwise;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The formats by their definitions, in fp64.
double Float8(int code) {
  const int exponent = (code >> 3) & 15;
  const int fraction = code & 7;
  if (exponent == 15 && fraction == 7) return std::nan("");
  const double magnitude = exponent == 0
                               ? std::ldexp(fraction / 8.0, -6)
                               : std::ldexp(1 + fraction / 8.0, exponent - 7);
  return code >= 128 ? -magnitude : magnitude;
}

double Float4(int code) {
  const int exponent = (code >> 1) & 3;
  const double fraction = (code & 1) / 2.0;
  const double magnitude =
      exponent == 0 ? fraction : std::ldexp(1 + fraction, exponent - 1);
  return code >= 8 ? -magnitude : magnitude;
}

double Exponent8(int code) {
  return code == 255 ? std::nan("") : std::ldexp(1.0, code - 127);
}

std::vector<float> Widen(const MatrixView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.size()));
  WidenRows(view, 0, view.rows, out.data());
  return out;
}

std::vector<float> ToFloats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

std::vector<float> TransposedValues(const std::vector<float>& values,
                                    std::int64_t rows, std::int64_t cols) {
  std::vector<float> out;
  for (std::int64_t c = 0; c < cols; ++c) {
    for (std::int64_t r = 0; r < rows; ++r) {
      out.push_back(values[static_cast<std::size_t>(r * cols + c)]);
    }
  }
  return out;
}

// A quantised matrix with what it stands for.
struct Quantised {
  MatrixView view;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<std::uint8_t> exponents;
  std::vector<float> values;  // [rows, cols]
};

// Every code by turns; scales that no power of two is.
Quantised MakeFloat8(std::int64_t rows, std::int64_t cols,
                     std::int64_t block_rows, std::int64_t block_cols) {
  Quantised q;
  const std::int64_t across = (cols + block_cols - 1) / block_cols;
  const std::int64_t down = (rows + block_rows - 1) / block_rows;
  for (std::int64_t i = 0; i < down * across; ++i) {
    q.scales.push_back(0.001F + 0.37F * static_cast<float>(i % 11));
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      // 0x7f and 0xff are left to tests that compare NaN.
      const auto code =
          static_cast<std::uint8_t>((r * cols + c) % 127 + 128 * ((r + c) % 2));
      const auto block = static_cast<std::size_t>(r / block_rows * across +
                                                  c / block_cols);
      q.codes.push_back(code);
      q.values.push_back(static_cast<float>(
          Float8(code) * static_cast<double>(q.scales[block])));
    }
  }
  q.view.data = q.codes.data();
  q.view.type = ElementType::kFloat8E4M3;
  q.view.rows = rows;
  q.view.cols = q.view.row_stride = cols;
  q.view.scales.data = q.scales.data();
  q.view.scales.block_rows = block_rows;
  q.view.scales.block_cols = block_cols;
  q.view.scales.row_stride = across;
  return q;
}

// `cols` is a multiple of 32, the length of a block.
Quantised MakeFloat4(std::int64_t rows, std::int64_t cols) {
  Quantised q;
  std::mt19937 random(7);
  for (std::int64_t i = 0; i < rows * cols / 2; ++i) {
    q.codes.push_back(static_cast<std::uint8_t>(random()));
  }
  for (std::int64_t i = 0; i < rows * cols / 32; ++i) {
    q.exponents.push_back(static_cast<std::uint8_t>(120 + random() % 10));
  }
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    const int byte = q.codes[static_cast<std::size_t>(i / 2)];
    const int code = i % 2 == 0 ? byte % 16 : byte / 16;
    q.values.push_back(static_cast<float>(
        Float4(code) * Exponent8(q.exponents[static_cast<std::size_t>(i / 32)])));
  }
  q.view.data = q.codes.data();
  q.view.type = ElementType::kFloat4E2M1;
  q.view.rows = rows;
  q.view.cols = q.view.row_stride = cols;
  q.view.scales.data = q.exponents.data();
  q.view.scales.type = ScaleType::kExponent8;
  q.view.scales.block_cols = 32;
  q.view.scales.row_stride = cols / 32;
  return q;
}

TEST(WidenRowsTest, HasEveryFloat8Code) {
  std::array<std::uint8_t, 256> codes = {};
  std::vector<float> expected;
  for (int code = 0; code < 256; ++code) {
    codes[static_cast<std::size_t>(code)] = static_cast<std::uint8_t>(code);
    expected.push_back(static_cast<float>(Float8(code)));
  }
  const float one = 1;
  MatrixView view = {codes.data(), ElementType::kFloat8E4M3, 1, 256, 256};
  view.scales.data = &one;
  view.scales.block_cols = 256;

  const std::vector<float> wide = Widen(view);

  EXPECT_THAT(wide, Pointwise(NanSensitiveFloatEq(), expected));
  EXPECT_EQ(wide[0x01], 0x1p-9F);  // smallest
  EXPECT_EQ(wide[0x7e], 448.0F);   // largest
  EXPECT_TRUE(std::signbit(wide[0x80]));
  EXPECT_TRUE(std::isnan(wide[0x7f]));
  EXPECT_TRUE(std::isnan(wide[0xff]));
}

TEST(WidenRowsTest, RoundsAProductOfFloat8AndScaleOnce) {
  const Quantised q = MakeFloat8(37, 150, 16, 32);

  EXPECT_THAT(Widen(q.view), ElementsAreArray(q.values));
}

TEST(WidenRowsTest, TakesScalesWithoutAlignment) {
  const Quantised q = MakeFloat8(5, 9, 2, 4);
  std::vector<std::uint8_t> bytes(q.scales.size() * sizeof(float) + 1);
  std::memcpy(bytes.data() + 1, q.scales.data(), bytes.size() - 1);
  MatrixView view = q.view;
  view.scales.data = bytes.data() + 1;

  EXPECT_THAT(Widen(view), ElementsAreArray(q.values));
}

TEST(WidenRowsTest, TakesScalesInBFloat16) {
  const std::array<std::uint8_t, 4> codes = {0x38, 0x40, 0x38, 0x40};  // 1, 2
  const std::array<std::uint16_t, 2> scales = {ToBFloat16(0.75F),
                                               ToBFloat16(-3.0F)};
  MatrixView view = {codes.data(), ElementType::kFloat8E4M3, 2, 2, 2};
  view.scales.data = scales.data();
  view.scales.type = ScaleType::kBFloat16;
  view.scales.block_cols = 2;
  view.scales.row_stride = 1;

  EXPECT_THAT(Widen(view), ElementsAre(0.75F, 1.5F, -3.0F, -6.0F));
}

TEST(WidenRowsTest, HasEveryFloat4CodeUnderEveryScale) {
  // One block of the sixteen codes, twice, for each scale.
  std::vector<std::uint8_t> codes;
  std::vector<std::uint8_t> scales;
  std::vector<float> expected;
  for (int scale = 0; scale < 256; ++scale) {
    scales.push_back(static_cast<std::uint8_t>(scale));
    for (int i = 0; i < 16; ++i) {
      codes.push_back(static_cast<std::uint8_t>(2 * i % 16 + 16 * (2 * i % 16 + 1)));
    }
    for (int i = 0; i < 32; ++i) {
      expected.push_back(static_cast<float>(Float4(i % 16) * Exponent8(scale)));
    }
  }
  MatrixView view = {codes.data(), ElementType::kFloat4E2M1, 256, 32, 32};
  view.scales.data = scales.data();
  view.scales.type = ScaleType::kExponent8;
  view.scales.block_cols = 32;
  view.scales.row_stride = 1;

  const std::vector<float> wide = Widen(view);

  EXPECT_THAT(wide, Pointwise(NanSensitiveFloatEq(), expected));
  EXPECT_EQ(wide[1], 0x1p-128F);                // scale 0, a subnormal number
  EXPECT_EQ(wide[254 * 32 + 3], 1.5F * 0x1p127F);
  EXPECT_EQ(wide[254 * 32 + 4], kInfinity);     // 2 · 2^127
  EXPECT_THAT(std::vector<float>(wide.end() - 32, wide.end()), Each(IsNan()));
}

TEST(WidenRowsTest, HasTheFirstFloat4InTheLowHalf) {
  const std::array<std::uint8_t, 1> codes = {0x72};
  const std::array<std::uint8_t, 1> scales = {128};
  MatrixView view = {codes.data(), ElementType::kFloat4E2M1, 1, 2, 2};
  view.scales.data = scales.data();
  view.scales.type = ScaleType::kExponent8;
  view.scales.block_cols = 32;

  EXPECT_THAT(Widen(view), ElementsAre(2.0F, 12.0F));
}

TEST(WidenRowsTest, ReadsTransposedQuantisedMatrices) {
  const Quantised eight = MakeFloat8(37, 150, 16, 32);
  const Quantised four = MakeFloat4(70, 96);

  EXPECT_THAT(Widen(Transposed(eight.view)),
              ElementsAreArray(TransposedValues(eight.values, 37, 150)));
  EXPECT_THAT(Widen(Transposed(four.view)),
              ElementsAreArray(TransposedValues(four.values, 70, 96)));
}

TEST(WidenRowsTest, ReadsBlocksFromAnywhere) {
  const Quantised four = MakeFloat4(4, 64);
  std::vector<float> out(6, -1);

  WidenBlock(four.view, {1, 2, 31, 2}, out.data(), 3);

  EXPECT_THAT(out, ElementsAre(four.values[64 + 31], four.values[64 + 32], -1,
                               four.values[128 + 31], four.values[128 + 32],
                               -1));
}

TEST(WidenRowsTest, KnowsWhereAPartBeginsInItsBlocks) {
  const Quantised whole = MakeFloat8(10, 12, 4, 4);
  MatrixView part = whole.view;
  part.data = whole.codes.data() + 3 * 12 + 5;
  part.rows = 7;
  part.cols = 7;
  part.scales.row_offset = 3;
  part.scales.col_offset = 5;
  std::vector<float> expected(49);
  WidenBlock(whole.view, {3, 7, 5, 7}, expected.data(), 7);

  EXPECT_THAT(Widen(part), ElementsAreArray(expected));
  EXPECT_THAT(Widen(Transposed(part)),
              ElementsAreArray(TransposedValues(expected, 7, 7)));
}

class PlainLayoutTest : public ::testing::TestWithParam<ElementType> {};

TEST_P(PlainLayoutTest, ReadsRowsColumnsAndEverySecondRow) {
  Matrices matrices(1, 130, 75, GetParam(), /*padding=*/3, /*offset=*/1);
  matrices.FillRandom(3);
  const MatrixView view = matrices.views()[0];
  const std::vector<float> values = ToFloats(matrices.values()[0]);
  MatrixView odd = view;
  odd.data = static_cast<const std::uint8_t*>(view.data) +
             view.row_stride * ElementSize(view.type);
  odd.rows = 65;
  odd.row_stride = 2 * view.row_stride;
  std::vector<float> odd_values;
  for (std::int64_t r = 1; r < 130; r += 2) {
    odd_values.insert(odd_values.end(), values.begin() + r * 75,
                      values.begin() + (r + 1) * 75);
  }

  EXPECT_THAT(Widen(view), ElementsAreArray(values));
  EXPECT_THAT(Widen(Transposed(view)),
              ElementsAreArray(TransposedValues(values, 130, 75)));
  EXPECT_THAT(Widen(odd), ElementsAreArray(odd_values));
  EXPECT_THAT(Widen(Transposed(odd)),
              ElementsAreArray(TransposedValues(odd_values, 65, 75)));
}

INSTANTIATE_TEST_SUITE_P(Types, PlainLayoutTest,
                         ::testing::Values(ElementType::kBFloat16,
                                           ElementType::kFloat16,
                                           ElementType::kFloat32));

TEST(BlockReaderTest, HandsOutDenseMatricesInPlace) {
  Matrices matrices(1, 4, 6, ElementType::kBFloat16, /*padding=*/2);
  const MatrixView view = matrices.views()[0];
  BlockReader reader;

  const MatrixView block = reader.Read(view, {1, 2, 3, 2});

  EXPECT_EQ(block.data, static_cast<const std::uint16_t*>(view.data) + 8 + 3);
  EXPECT_EQ(block.row_stride, 8);
  EXPECT_EQ(block.rows, 2);
  EXPECT_EQ(block.cols, 2);
}

TEST(BlockReaderTest, KeepsTheTypeOfPlainMatrices) {
  Matrices matrices(1, 4, 6, ElementType::kBFloat16);
  matrices.FillRandom(1);
  BlockReader reader;

  const MatrixView block =
      reader.Read(Transposed(matrices.views()[0]), {0, 6, 0, 4});

  EXPECT_EQ(block.type, ElementType::kBFloat16);
  EXPECT_TRUE(block.contiguous());
  EXPECT_THAT(Widen(block), ElementsAreArray(TransposedValues(
                                ToFloats(matrices.values()[0]), 4, 6)));
}

TEST(BlockReaderTest, WidensQuantisedBlocks) {
  const Quantised q = MakeFloat8(6, 8, 4, 4);
  BlockReader reader;

  const MatrixView block = reader.Read(q.view, {2, 3, 0, 8});

  EXPECT_EQ(block.type, ElementType::kFloat32);
  EXPECT_THAT(Widen(block), ElementsAreArray(std::vector<float>(
                                q.values.begin() + 16, q.values.begin() + 40)));
}

TEST(StoredBytesTest, CountsCodesAndScales) {
  EXPECT_EQ(StoredBytes(MakeFloat8(37, 150, 16, 32).view), 37 * 150 + 15 * 4);
  EXPECT_EQ(StoredBytes(MakeFloat4(70, 96).view), 70 * 48 + 70 * 3);
  EXPECT_EQ(StoredBytes({nullptr, ElementType::kBFloat16, 3, 5, 5}), 30);
}

struct BadView {
  const char* message;
  void (*spoil)(MatrixView& view);
};

class CheckViewTest : public ::testing::TestWithParam<BadView> {};

TEST_P(CheckViewTest, NamesWhatIsWrong) {
  Quantised q = MakeFloat8(6, 8, 4, 4);
  GetParam().spoil(q.view);

  const absl::Status status = CheckView("matrix", q.view);

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Views, CheckViewTest,
    ::testing::Values(
        BadView{"matrix: is no matrix: [-1, 8] with rows 8 and columns 1 "
                "elements apart",
                [](MatrixView& view) { view.rows = -1; }},
        BadView{"matrix: is no matrix: [6, 8] with rows 8 and columns 2 "
                "elements apart",
                [](MatrixView& view) { view.col_stride = 2; }},
        BadView{"matrix: has no data",
                [](MatrixView& view) { view.data = nullptr; }},
        BadView{"matrix: is quantised, but has no scales",
                [](MatrixView& view) { view.scales.data = nullptr; }},
        BadView{"matrix: has scales, but is not quantised",
                [](MatrixView& view) { view.type = ElementType::kFloat32; }},
        BadView{"matrix: has scales of blocks of [0, 4] from [0, 0] on",
                [](MatrixView& view) { view.scales.block_rows = 0; }}));

TEST(CheckViewTest, AcceptsInterleavedRowsOfATransposedStack) {
  // Even columns of [4, 12], taken as rows.
  const std::vector<float> values(48);

  EXPECT_TRUE(CheckView("x", {values.data(), ElementType::kFloat32, 6, 4, 2,
                              12}).ok());
}

// What analyses make of views must not depend on the layout. Sums of small
// integers are exact in any order.

GramOptions Everything() {
  GramOptions options;
  options.row_norms = options.column_norms = true;
  options.mean_row = options.mean_column = true;
  return options;
}

void ExpectSame(const GramResult& a, const GramResult& b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.cols, b.cols);
  EXPECT_EQ(a.gram, b.gram);
  EXPECT_EQ(a.row_norms, b.row_norms);
  EXPECT_EQ(a.column_norms, b.column_norms);
  EXPECT_EQ(a.mean_row, b.mean_row);
  EXPECT_EQ(a.mean_column, b.mean_column);
  EXPECT_EQ(a.nonfinite, b.nonfinite);
}

GramResult Gram(const std::vector<MatrixView>& views) {
  ThreadPool pool(2);
  return *ComputeGram(views, Everything(), pool, RunContext());
}

// The values of `x`, transposed in memory; element type bf16.
class TurnedRound {
 public:
  explicit TurnedRound(const MatrixView& x)
      : memory_(1, x.cols, x.rows, ElementType::kBFloat16) {
    const std::vector<float> values = Widen(x);
    for (std::int64_t r = 0; r < x.rows; ++r) {
      for (std::int64_t c = 0; c < x.cols; ++c) {
        memory_.Set(0, c, r, values[static_cast<std::size_t>(r * x.cols + c)]);
      }
    }
  }
  MatrixView view() const { return Transposed(memory_.views()[0]); }

 private:
  Matrices memory_;
};

TEST(GramOfViewsTest, AgreesForTransposedMatrices) {
  Matrices matrices(3, 40, 70, ElementType::kBFloat16);
  matrices.FillRandom(5);
  const std::vector<MatrixView> plain = matrices.views();
  const TurnedRound a(plain[0]);
  const TurnedRound b(plain[1]);
  const TurnedRound c(plain[2]);

  const GramResult expected = Gram(plain);

  ExpectSame(Gram({a.view(), b.view(), c.view()}), expected);
  ExpectSame(Gram({a.view(), b.view(), plain[2]}), expected);
  ExpectSame(Gram({plain[0], b.view(), plain[2]}), expected);
}

TEST(GramOfViewsTest, AgreesForQuantisedMatrices) {
  const Quantised a = MakeFloat4(300, 96);
  Quantised b = MakeFloat4(300, 96);
  b.codes.assign(b.codes.size(), 0x2a);  // 2^s times -1 and 1
  const std::vector<float> a_wide = Widen(a.view);
  const std::vector<float> b_wide = Widen(b.view);

  const GramResult expected =
      Gram({{a_wide.data(), ElementType::kFloat32, 300, 96, 96},
            {b_wide.data(), ElementType::kFloat32, 300, 96, 96}});

  ExpectSame(Gram({a.view, b.view}), expected);
  EXPECT_GT(expected.gram[0], 0);
}

TEST(GramOfViewsTest, CountsNanCodes) {
  Quantised q = MakeFloat8(6, 8, 4, 4);
  q.codes[5] = 0x7f;
  q.codes[47] = 0xff;
  ThreadPool pool(1);

  const GramResult result = Gram({q.view, q.view});

  EXPECT_THAT(result.nonfinite, ElementsAre(2, 2));
}

TEST(SpectrumOfViewsTest, AgreesForTransposedMatrices) {
  Matrices matrix(1, 30, 20, ElementType::kBFloat16);
  matrix.FillRandom(2);
  const TurnedRound turned(matrix.views()[0]);
  ThreadPool pool(1);

  const Spectrum plain =
      *ComputeSpectrum(matrix.views()[0], pool, RunContext());
  const Spectrum same = *ComputeSpectrum(turned.view(), pool, RunContext());

  EXPECT_EQ(plain.frobenius, same.frobenius);
  EXPECT_EQ(plain.effective_rank, same.effective_rank);
}

TEST(CountNonfiniteTest, CountsAllRowsUnlessCancelled) {
  std::vector<float> values(200 * 3, 1.0F);
  values[0] = values[431] = kInfinity;
  values[599] = std::nanf("");
  const MatrixView view = {values.data(), ElementType::kFloat32, 200, 3, 3};
  ThreadPool pool(2);
  const RunContext context;

  EXPECT_EQ(*CountNonfinite(view, pool, context), 3);
  EXPECT_EQ(*CountNonfinite(Transposed(view), pool, context), 3);

  context.token().Cancel(absl::CancelledError("enough"));
  EXPECT_EQ(CountNonfinite(view, pool, context).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(RowCosinesOfViewsTest, AgreesForQuantisedMatrices) {
  const Quantised q = MakeFloat4(5, 64);
  const std::vector<double> values(q.values.begin(), q.values.end());

  EXPECT_EQ(*RowCosines(q.view), *RowCosines(values, 5, 64));
}

}  // namespace
}  // namespace moescope::numerics
