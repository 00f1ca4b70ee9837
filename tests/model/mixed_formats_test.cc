// Blocks whose matrices are in different number formats.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "moescope/numerics/widen_rows.h"
#include "tests/model/forward_testing.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

// A fixture with F32 weights, and what the names of those contain that become
// BF16.
struct Layout {
  const char* fixture;
  const char* narrowed;
};

void PrintTo(const Layout& layout, std::ostream* out) {
  *out << layout.fixture;
}

// How the tensors with the layout's name are written: cut to the upper half of
// their bits, or as long as they were with zeros for the lower half.
enum class Written { kBFloat16, kFloat32 };

std::string Cut(const TensorEntry& tensor, Written written) {
  const auto* const bytes = reinterpret_cast<const char*>(tensor.data);
  std::string cut;
  for (std::int64_t i = 0; i < tensor.size_bytes; i += 4) {
    if (written == Written::kFloat32) cut.append(2, '\0');
    cut.append(bytes + i + 2, 2);
  }
  return cut;
}

void WriteFixture(const ScratchFolder& folder, const Layout& layout,
                  Written written) {
  const std::string source =
      TestData(absl::StrCat("fixtures/", layout.fixture, "/"));
  const auto weights = *SafetensorsFile::Open(source + "model.safetensors");
  std::string header;
  std::string data;
  for (const auto& [name, tensor] : weights->tensors()) {
    const bool cut = absl::StrContains(name, layout.narrowed);
    const std::size_t begin = data.size();
    if (cut) {
      ASSERT_EQ(tensor.dtype, TensorDtype::kF32) << name;
      data += Cut(tensor, written);
    } else {
      data.append(reinterpret_cast<const char*>(tensor.data),
                  static_cast<std::size_t>(tensor.size_bytes));
    }
    absl::StrAppend(
        &header, header.empty() ? "{" : ", ", "\"", name, "\": {\"dtype\": \"",
        cut && written == Written::kBFloat16 ? "BF16" : DtypeName(tensor.dtype),
        "\", \"shape\": [", absl::StrJoin(tensor.shape, ", "),
        "], \"data_offsets\": [", begin, ", ", data.size(), "]}");
  }
  folder.Write("model.safetensors", SafetensorsBytes(header + "}", data));
  folder.Write("config.json", ReadBytes(source + "config.json"));
}

std::vector<float> Values(const numerics::MatrixView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.size()));
  numerics::WidenRows(view, 0, view.rows, values.data());
  return values;
}

class MixedFormatsTest : public testing::TestWithParam<Layout> {
 protected:
  void SetUp() override {
    WriteFixture(mixed_, GetParam(), Written::kBFloat16);
    WriteFixture(alike_, GetParam(), Written::kFloat32);
  }
  ScratchFolder mixed_;
  ScratchFolder alike_;
};

TEST_P(MixedFormatsTest, ExpertsHaveTheirMatricesValues) {
  const auto mixed = *Checkpoint::Open(mixed_.path());
  const auto alike = *Checkpoint::Open(alike_.path());

  const ExpertWeights a = *mixed->Expert(1, 1);
  const ExpertWeights b = *alike->Expert(1, 1);

  EXPECT_NE(a[Projection::kDown].type, a[Projection::kGate].type);
  EXPECT_EQ(Values(a[Projection::kGate]), Values(b[Projection::kGate]));
  EXPECT_EQ(Values(a[Projection::kUp]), Values(b[Projection::kUp]));
  EXPECT_EQ(Values(a[Projection::kDown]), Values(b[Projection::kDown]));
}

TEST_P(MixedFormatsTest, APassGivesTheSameBytesAsInOneFormat) {
  const auto mixed = LoadModel(mixed_.path());
  const auto alike = LoadModel(alike_.path());
  const Sequences sequences = MakeSequences({7, 3}, 32);

  const auto shown = RunForward(*mixed, sequences, RequestAll(*mixed), 2);

  EXPECT_EQ(FirstDifference(
                shown, RunForward(*alike, sequences, RequestAll(*alike), 2)),
            "");
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, MixedFormatsTest,
    testing::Values(Layout{"mixtral", ".w2.weight"},
                    Layout{"mixtral_fused", "experts.down_proj"},
                    Layout{"llama4_text", "experts.down_proj"},
                    Layout{"dbrx", "experts.mlp.w2"},
                    Layout{"jetmoe", "mlp.output_linear"}),
    [](const testing::TestParamInfo<Layout>& layout) {
      return std::string(layout.param.fixture);
    });

}  // namespace
}  // namespace moescope::model
