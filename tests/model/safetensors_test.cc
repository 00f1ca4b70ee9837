#include "moescope/model/safetensors.h"

#include <sys/stat.h>

#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/malformed_corpus.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::string Text(const TensorEntry& tensor) {
  return std::string(reinterpret_cast<const char*>(tensor.data),
                     static_cast<std::size_t>(tensor.size_bytes));
}

TEST(SafetensorsTest, ReadsNamesShapesAndBytesInPlace) {
  ScratchFolder folder;
  const std::string path = folder.Write(
      "x.safetensors",
      SafetensorsBytes(
          R"({"__metadata__":{"format":"pt"},)"
          R"("b":{"dtype":"U8","shape":[1,3],"data_offsets":[4,7]},)"
          R"("a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}   )",
          "abcdefg"));

  const auto file = SafetensorsFile::Open(path);

  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ((*file)->tensors().size(), 2u);
  const TensorEntry& a = (*file)->tensors().at("a");
  EXPECT_EQ(a.dtype, TensorDtype::kBF16);
  EXPECT_THAT(a.shape, ElementsAre(2));
  EXPECT_EQ(Text(a), "abcd");
  const TensorEntry& b = (*file)->tensors().at("b");
  EXPECT_THAT(b.shape, ElementsAre(1, 3));
  EXPECT_EQ(Text(b), "efg");
  EXPECT_EQ((*file)->metadata().at("format"), "pt");
}

TEST(SafetensorsTest, ReadsScalarsEmptyTensorsAndUnalignedData) {
  ScratchFolder folder;
  const std::string path = folder.Write(
      "x.safetensors",
      SafetensorsBytes(
          R"({"none":{"dtype":"F32","shape":[0,5],"data_offsets":[1,1]},)"
          R"("byte":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
          R"("scalar":{"dtype":"F32","shape":[],"data_offsets":[1,5]}})",
          std::string("x\0\0\x80\x3f", 5)));

  const auto file = SafetensorsFile::Open(path);

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->tensors().at("none").size_bytes, 0);
  const TensorEntry& scalar = (*file)->tensors().at("scalar");
  EXPECT_THAT(scalar.shape, IsEmpty());
  float value = 0;
  std::memcpy(&value, scalar.data, sizeof(value));
  EXPECT_EQ(value, 1.0F);
}

TEST(SafetensorsTest, ReadsAFileWithoutTensors) {
  ScratchFolder folder;
  const auto file = SafetensorsFile::Open(
      folder.Write("x.safetensors", SafetensorsBytes("{}", "")));

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT((*file)->tensors(), IsEmpty());
}

TEST(SafetensorsTest, SaysThatAFileIsNotThere) {
  ScratchFolder folder;
  const auto file = SafetensorsFile::Open(folder / "x.safetensors");

  EXPECT_EQ(file.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(file.status().message()),
              StartsWith("x.safetensors: "));
}

TEST(SafetensorsTest, RefusesAFolder) {
  ScratchFolder folder;
  const auto file = SafetensorsFile::Open(folder.path());

  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(file.status().message()),
              HasSubstr("not a regular file"));
}

TEST(SafetensorsTest, RefusesANamedPipeWithoutWaiting) {
  ScratchFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);

  const auto file = SafetensorsFile::Open(folder / "pipe");

  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
}

TEST(SafetensorsTest, NamesAFormatThatIsNotSupported) {
  ScratchFolder folder;
  const auto file = SafetensorsFile::Open(folder.Write(
      "x.safetensors",
      SafetensorsBytes(
          OneTensor(R"("dtype":"F4","shape":[2],"data_offsets":[0,1])"), "1")));

  EXPECT_EQ(file.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("dtype F4"));
}

TEST(SafetensorsTest, CutsLongNamesInMessages) {
  ScratchFolder folder;
  const auto file = SafetensorsFile::Open(folder.Write(
      "x.safetensors",
      SafetensorsBytes("{\"" + std::string(100'000, 'n') + "\":1}", "")));

  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_LT(file.status().message().size(), 300u);
}

class MalformedSafetensorsTest
    : public ::testing::TestWithParam<MalformedFile> {};

TEST_P(MalformedSafetensorsTest, IsRefusedNamingFileAndCause) {
  ScratchFolder folder;
  const std::string path =
      folder.Write("bad.safetensors", GetParam().bytes);

  const auto file = SafetensorsFile::Open(path);

  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(file.status().message()),
              AllOf(StartsWith("bad.safetensors: "),
                    HasSubstr(GetParam().cause)));
}

INSTANTIATE_TEST_SUITE_P(
    Corpus, MalformedSafetensorsTest, ::testing::ValuesIn(MalformedCorpus()),
    [](const ::testing::TestParamInfo<MalformedFile>& row) {
      return std::string(row.param.name);
    });

}  // namespace
}  // namespace moescope::model
