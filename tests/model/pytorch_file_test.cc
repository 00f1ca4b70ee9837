#include "moescope/model/pytorch_file.h"

#include <cstring>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/model/checkpoint.h"
#include "tests/model/pytorch_bytes.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using FilePtr = std::shared_ptr<const PytorchFile>;

std::string Testdata(const std::string& name) {
  return MOESCOPE_SOURCE_DIR "/tests/testdata/" + name;
}

absl::StatusOr<FilePtr> OpenTestdata(const std::string& name) {
  return PytorchFile::Open(Testdata("pytorch/" + name));
}

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

template <typename T>
std::vector<T> Values(const TensorEntry& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.size_bytes) /
                        sizeof(T));
  std::memcpy(values.data(), tensor.data,
              static_cast<std::size_t>(tensor.size_bytes));
  return values;
}

// Files that torch wrote (tests/testdata/pytorch/README.md).

TEST(PytorchFileTest, ReadsEveryKindOfTensor) {
  const auto file = OpenTestdata("kinds.bin");
  ASSERT_TRUE(file.ok()) << file.status();
  const std::map<std::string, TensorEntry>& tensors = (*file)->tensors();

  ASSERT_EQ(tensors.size(), 9U);
  EXPECT_EQ(tensors.at("bf16").dtype, TensorDtype::kBF16);
  EXPECT_THAT(Values<std::uint16_t>(tensors.at("bf16")),
              ElementsAre(0x3fc0, 0xc000, 0x3e80, 0x4040));
  EXPECT_EQ(tensors.at("half").dtype, TensorDtype::kF16);
  EXPECT_THAT(Values<std::uint16_t>(tensors.at("half")),
              ElementsAre(0x3800, 0x7bff));
  EXPECT_EQ(tensors.at("bytes").dtype, TensorDtype::kU8);
  EXPECT_THAT(Values<std::uint8_t>(tensors.at("bytes")),
              ElementsAre(0, 1, 255));
  EXPECT_EQ(tensors.at("longs").dtype, TensorDtype::kI64);
  EXPECT_THAT(Values<std::int64_t>(tensors.at("longs")),
              ElementsAre(-1, std::int64_t{1} << 40));
  EXPECT_THAT(tensors.at("scalar").shape, ElementsAre());
  EXPECT_THAT(Values<float>(tensors.at("scalar")), ElementsAre(7.0F));
  EXPECT_THAT(tensors.at("empty").shape, ElementsAre(0, 4));
  EXPECT_EQ(tensors.at("empty").size_bytes, 0);
  EXPECT_THAT(Values<float>(tensors.at("grad")), ElementsAre(1.0F, 2.0F));
}

TEST(PytorchFileTest, SharesStoragesWithOffsets) {
  const auto file = OpenTestdata("kinds.bin");
  ASSERT_TRUE(file.ok()) << file.status();

  const TensorEntry& whole = (*file)->tensors().at("whole.weight");
  const TensorEntry& row = (*file)->tensors().at("second_row.weight");

  EXPECT_THAT(whole.shape, ElementsAre(3, 4));
  EXPECT_EQ(whole.name, "whole.weight");
  EXPECT_EQ(row.data, whole.data + 4 * sizeof(float));
  EXPECT_THAT(Values<float>(row), ElementsAre(4.0F, 5.0F, 6.0F, 7.0F));
}

TEST(PytorchFileTest, ReadsTheStateOfAModule) {
  const auto file = OpenTestdata("module.bin");
  ASSERT_TRUE(file.ok()) << file.status();
  const std::map<std::string, TensorEntry>& tensors = (*file)->tensors();

  ASSERT_EQ(tensors.size(), 4U);
  EXPECT_THAT(tensors.at("0.weight").shape, ElementsAre(3, 2));
  EXPECT_THAT(Values<float>(tensors.at("0.weight")),
              ElementsAre(0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 5.0F));
  EXPECT_THAT(Values<float>(tensors.at("1.bias")),
              ElementsAre(300.0F, 301.0F, 302.0F));
}

struct Written {
  const char* name;
  absl::StatusCode code;
  const char* cause;
};

class RefusedGoldenTest : public ::testing::TestWithParam<Written> {};

TEST_P(RefusedGoldenTest, NamesFileAndCause) {
  const auto file = OpenTestdata(GetParam().name);

  EXPECT_EQ(file.status().code(), GetParam().code);
  EXPECT_THAT(Message(file.status()),
              AllOf(StartsWith(std::string(GetParam().name) + ": "),
                    HasSubstr(GetParam().cause)));
}

INSTANTIATE_TEST_SUITE_P(
    Files, RefusedGoldenTest,
    ::testing::Values(
        Written{"transposed.bin", absl::StatusCode::kUnimplemented,
                "tensor \"t\": shape [4, 3] with strides [1, 4] is not "
                "contiguous"},
        Written{"old_format.bin", absl::StatusCode::kUnimplemented,
                "the format before torch 1.6"},
        Written{"number.bin", absl::StatusCode::kDataLoss,
                "value of \"n\" is an integer, not a tensor"},
        Written{"parameter.bin", absl::StatusCode::kDataLoss,
                "name \"torch._utils._rebuild_parameter\" is none that "
                "tensors need, at offset "}));

// Files made here. Storage "0" has three floats.

const std::string& ThreeFloats() {
  static const auto* const kBytes = new std::string(12, '\0');
  return *kBytes;
}

std::string FileOf(const std::string& pickle) {
  return ZipBytes({{"a/data.pkl", pickle}, {"a/data/0", ThreeFloats()}});
}

std::string Floats(std::int64_t elements) {
  return PickleStorage("0", "FloatStorage", elements);
}

std::string FileOfTensor(const std::string& tensor) {
  return FileOf(PickleDict(PickleText("t") + tensor));
}

absl::StatusOr<FilePtr> OpenBytes(const std::string& bytes) {
  const ScratchFolder folder;
  return PytorchFile::Open(folder.Write("x.bin", bytes));
}

TEST(MadePytorchFileTest, ReadsWhatTheHelpersWrite) {
  const auto file =
      OpenBytes(FileOfTensor(PickleTensor(Floats(3), 1, {2}, {1})));

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->tensors().at("t").size_bytes, 8);
}

TEST(MadePytorchFileTest, ReadsZip64AndTheEntriesOfLaterVersions) {
  const std::string pickle =
      PickleDict(PickleText("t") + PickleTensor(Floats(3), 0, {3}, {1}));
  const auto file = OpenBytes(ZipBytes({{"a/data.pkl", pickle},
                                        {"a/.format_version", "1"},
                                        {"a/.storage_alignment", "64"},
                                        {"a/byteorder", "little"},
                                        {"a/data/0", ThreeFloats()},
                                        {"a/version", "3\n"},
                                        {"a/.data/serialization_id", "17"}},
                                       /*zip64=*/true));

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT((*file)->tensors().at("t").shape, ElementsAre(3));
}

TEST(MadePytorchFileTest, RefusesAnotherByteOrder) {
  const auto file = OpenBytes(
      ZipBytes({{"a/data.pkl", PickleDict("")}, {"a/byteorder", "big"}}));

  EXPECT_EQ(file.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(file.status()), HasSubstr("byteorder: \"big\""));
}

TEST(MadePytorchFileTest, RefusesFilesCutShortAnywhere) {
  const std::string whole =
      FileOfTensor(PickleTensor(Floats(3), 0, {3}, {1}));
  int accepted = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto file = OpenBytes(whole.substr(0, size));
    accepted += file.status().code() == absl::StatusCode::kDataLoss ? 0 : 1;
  }
  EXPECT_EQ(accepted, 0);
}

TEST(MadePytorchFileTest, SurvivesAnyChangedByte) {
  const std::string whole =
      FileOfTensor(PickleTensor(Floats(3), 1, {2, 1}, {1, 1}));
  std::size_t opened = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    changed[i] = static_cast<char>(~changed[i]);
    const auto file = OpenBytes(changed);
    opened += file.ok() ? 1 : 0;
    EXPECT_TRUE(file.ok() ||
                file.status().code() == absl::StatusCode::kDataLoss ||
                file.status().code() == absl::StatusCode::kUnimplemented)
        << i << ": " << file.status();
  }
  EXPECT_LT(opened, whole.size());
}

TEST(MadePytorchFileTest, RefusesAnEndlessBroadcast) {
  const auto file = OpenBytes(FileOfTensor(
      PickleTensor(Floats(3), 0, {INT64_MAX, INT64_MAX}, {0, 0})));

  EXPECT_EQ(file.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(file.status()), HasSubstr("is not contiguous"));
}

struct Hostile {
  const char* name;
  std::string (*bytes)();
  const char* cause;
};

void PrintTo(const Hostile& hostile, std::ostream* out) { *out << hostile.name; }

class HostilePytorchFileTest : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostilePytorchFileTest, IsRefusedNamingFileAndCause) {
  const auto file = OpenBytes(GetParam().bytes());

  EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(file.status()),
              AllOf(StartsWith("x.bin: "), HasSubstr(GetParam().cause)));
}

std::string Repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

INSTANTIATE_TEST_SUITE_P(
    Zips, HostilePytorchFileTest,
    ::testing::Values(
        Hostile{"nothing", [] { return std::string(); }, "zip: too short"},
        Hostile{"no_zip", [] { return std::string(100, 'x'); },
                "zip: no end of central directory"},
        Hostile{"no_pickle", [] { return ZipBytes({{"a/data/0", ""}}); },
                "has no entry data.pkl"},
        Hostile{"two_pickles",
                [] {
                  return ZipBytes({{"a/data.pkl", PickleDict("")},
                                   {"b/data.pkl", PickleDict("")}});
                },
                "there must be one data.pkl"},
        Hostile{"compressed",
                [] { return ZipBytes({{"a/data.pkl", PickleDict(""), 8}}); },
                "entry \"a/data.pkl\": is compressed, must be stored"},
        Hostile{"encrypted",
                [] { return ZipBytes({{"a/data.pkl", PickleDict(""), 0, 1}}); },
                "entry \"a/data.pkl\": is encrypted"},
        Hostile{"duplicate",
                [] {
                  return ZipBytes({{"a/data.pkl", PickleDict("")},
                                   {"a/data.pkl", PickleDict("")}});
                },
                "entry \"a/data.pkl\": the name stands twice"},
        Hostile{"size_beyond_the_data",
                [] {
                  return ZipBytes({{"a/data.pkl", PickleDict(""), 0, 0, 1000}});
                },
                "entry \"a/data.pkl\": its 1006 bytes at offset 40 reach "
                "beyond the data"},
        Hostile{"offset_beyond_the_data",
                [] {
                  return ZipBytes(
                      {{"a/data.pkl", PickleDict(""), 0, 0, 0, 1 << 20}});
                },
                "its header at offset 1048576 lies outside the data"},
        Hostile{"offset_into_another",
                [] {
                  return ZipBytes({{"a/data.pkl", PickleDict("")},
                                   {"a/data/0", "", 0, 0, 0, -46}});
                },
                "entry \"a/data/0\": its header at offset 0 contradicts"},
        Hostile{"overlapping",
                [] {
                  return ZipBytes({{"a/data.pkl", PickleDict(""), 0, 0, 10},
                                   {"a/data/0", ThreeFloats()}});
                },
                "entry \"a/data/0\": overlaps entry \"a/data.pkl\""},
        Hostile{"zip64_sizes_beyond_64_bits",
                [] {
                  return ZipBytes({{"a/data.pkl", PickleDict(""), 0, 0, -7}},
                                  /*zip64=*/true);
                },
                "its 18446744073709551615 bytes at offset 40 reach beyond"}));

INSTANTIATE_TEST_SUITE_P(
    Pickles, HostilePytorchFileTest,
    ::testing::Values(
        Hostile{"os_system",
                [] {
                  return FileOf("\x80\x02" "cposix\nsystem\n" +
                                PickleText("touch /tmp/owned") + "\x85R.");
                },
                "pickle: name \"posix.system\" is none that tensors need, at "
                "offset 2"},
        Hostile{"builtins_eval",
                [] { return FileOf("\x80\x02" "c__builtin__\neval\n."); },
                "name \"__builtin__.eval\""},
        Hostile{"stack_global",
                [] {
                  return FileOf("\x80\x02" + PickleText("os") +
                                PickleText("system") + "\x93.");
                },
                "opcode 0x93 is none that tensors need"},
        Hostile{"instance", [] { return FileOf("\x80\x02(ios\nsystem\n."); },
                "opcode 0x69"},
        Hostile{"newer_protocol",
                [] { return FileOf("\x80\x04}."); }, "protocol 4 instead of 2"},
        Hostile{"storage_type_called",
                [] { return FileOf("\x80\x02" "ctorch\nFloatStorage\n)R."); },
                "a storage type is called"},
        Hostile{"reduces_no_name", [] { return FileOf("\x80\x02})R."); },
                "has a dictionary instead of a name"},
        Hostile{"builds_no_dictionary",
                [] { return FileOf("\x80\x02N}b."); },
                "has None instead of a dictionary"},
        Hostile{"empty_stack", [] { return FileOf("\x80\x02s."); },
                "takes more from its stack than there is"},
        Hostile{"no_mark", [] { return FileOf("\x80\x02}u."); }, "has no mark"},
        Hostile{"unknown_memo", [] { return FileOf("\x80\x02h\x07."); },
                "recalls object 7, which is not there"},
        Hostile{"endless_memo",
                [] { return FileOf("\x80\x02}r\xff\xff\xff\xff."); },
                "remembers object 4294967295"},
        Hostile{"no_stop", [] { return FileOf("\x80\x02}"); },
                "pickle: ends too early"},
        Hostile{"text_of_4_gib",
                [] { return FileOf("\x80\x02X\xff\xff\xff\xff" "a."); },
                "ends too early"},
        Hostile{"million_objects",
                [] { return FileOf("\x80\x02" + std::string(1100000, 'N')); },
                "has more than 1048576 objects"},
        Hostile{"huge_pickle",
                [] { return FileOf(std::string((16 << 20) + 1, 'N')); },
                "at most 16777216 are read"},
        Hostile{"dictionary_in_itself",
                [] { return FileOf("\x80\x02}q\x01" + PickleText("a") +
                                   "h\x01s."); },
                "value of \"a\" is a dictionary, not a tensor"},
        Hostile{"no_dictionary", [] { return FileOf("\x80\x02N."); },
                "is None, not a dictionary of tensors"},
        Hostile{"key_is_no_text",
                [] { return FileOf(PickleDict("NN")); },
                "a key is None, not a text"},
        Hostile{"leftovers", [] { return FileOf("\x80\x02}}."); },
                "leaves objects behind"}));

INSTANTIATE_TEST_SUITE_P(
    Tensors, HostilePytorchFileTest,
    ::testing::Values(
        Hostile{"missing_storage",
                [] {
                  return FileOfTensor(PickleTensor(
                      PickleStorage("9", "FloatStorage", 3), 0, {3}, {1}));
                },
                "storage \"9\" is missing"},
        Hostile{"storage_outside_the_folder",
                [] {
                  return FileOfTensor(PickleTensor(
                      PickleStorage("../data.pkl", "FloatStorage", 3), 0, {3},
                      {1}));
                },
                "storage \"../data.pkl\" is missing"},
        Hostile{"storage_of_other_size",
                [] {
                  return FileOfTensor(PickleTensor(Floats(4), 0, {3}, {1}));
                },
                "storage \"0\" has 12 bytes, not 4 elements of F32"},
        Hostile{"storage_of_2_to_62_elements",
                [] {
                  return FileOfTensor(PickleTensor(
                      Floats(std::int64_t{1} << 62), 0, {3}, {1}));
                },
                "not 4611686018427387904 elements of F32"},
        Hostile{"offset_beyond_the_storage",
                [] {
                  return FileOfTensor(PickleTensor(Floats(3), 1, {3}, {1}));
                },
                "from element 1 on does not fit its storage of 12 bytes"},
        Hostile{"negative_offset",
                [] {
                  return FileOfTensor(PickleTensor(Floats(3), -1, {3}, {1}));
                },
                "_rebuild_tensor_v2 has other arguments"},
        Hostile{"negative_extent",
                [] {
                  return FileOfTensor(PickleTensor(Floats(3), 0, {-3}, {1}));
                },
                "a tensor's size holds something else than integers from 0"},
        Hostile{"overflowing_extents",
                [] {
                  return FileOfTensor(
                      PickleTensor(Floats(3), 0,
                                   {std::int64_t{1} << 62, std::int64_t{1} << 62},
                                   {std::int64_t{1} << 62, 1}));
                },
                "does not fit its storage"},
        Hostile{"strides_of_other_length",
                [] {
                  return FileOfTensor(PickleTensor(Floats(3), 0, {3}, {1, 1}));
                },
                "does not fit its storage"},
        Hostile{"many_dimensions",
                [] {
                  return FileOfTensor(PickleTensor(
                      Floats(3), 0, std::vector<std::int64_t>(9, 1),
                      std::vector<std::int64_t>(9, 1)));
                },
                "a tensor's size is no tuple of at most 8 integers"},
        Hostile{"name_twice",
                [] {
                  return FileOf(PickleDict(Repeat(
                      PickleText("t") + PickleTensor(Floats(3), 0, {3}, {1}),
                      2)));
                },
                "name \"t\" stands twice"}));

// Whole checkpoints.

std::shared_ptr<const Checkpoint> OpenFolder(const std::string& folder) {
  auto checkpoint = Checkpoint::Open(folder);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return *std::move(checkpoint);
}

// The tensors of fixtures/mixtral as one or two .bin files.
std::map<std::string, const TensorEntry*> MixtralTensors(
    const SafetensorsFile& file) {
  std::map<std::string, const TensorEntry*> tensors;
  for (const auto& [name, tensor] : file.tensors()) tensors[name] = &tensor;
  return tensors;
}

std::string Bytes(const numerics::MatrixView& view) {
  return std::string(static_cast<const char*>(view.data),
                     static_cast<std::size_t>(numerics::StoredBytes(view)));
}

TEST(PytorchCheckpointTest, OpensShardsByTheirIndex) {
  const auto source =
      *SafetensorsFile::Open(Testdata("fixtures/mixtral/model.safetensors"));
  std::map<std::string, const TensorEntry*> first = MixtralTensors(*source);
  std::map<std::string, const TensorEntry*> second;
  std::string index;
  const auto half = std::next(first.begin(), 20);
  second.insert(half, first.end());
  first.erase(half, first.end());
  for (const auto& [name, tensor] : MixtralTensors(*source)) {
    index += (index.empty() ? "" : ", ") + ("\"" + name + "\": ") +
             (first.count(name) != 0 ? "\"pytorch_model-00001-of-00002.bin\""
                                     : "\"pytorch_model-00002-of-00002.bin\"");
  }
  const ScratchFolder folder;
  folder.Write("config.json",
               ReadBytes(Testdata("fixtures/mixtral/config.json")));
  folder.Write("pytorch_model-00001-of-00002.bin", PytorchBytes(first));
  folder.Write("pytorch_model-00002-of-00002.bin", PytorchBytes(second));
  folder.Write("pytorch_model.bin.index.json",
               "{\"weight_map\": {" + index + "}}");

  const auto checkpoint = OpenFolder(folder.path());
  const auto expected = OpenFolder(Testdata("fixtures/mixtral"));

  EXPECT_EQ(checkpoint->weight_files().size(), 2U);
  EXPECT_EQ(Bytes(*checkpoint->Router(1)), Bytes(*expected->Router(1)));
  EXPECT_EQ(Bytes((*checkpoint->Expert(1, 7))[Projection::kDown]),
            Bytes((*expected->Expert(1, 7))[Projection::kDown]));
}

TEST(PytorchCheckpointTest, PrefersSafetensors) {
  const ScratchFolder folder;
  const std::string model = folder.CopyTestdata("fixtures/mixtral", "model");
  folder.Write("model/pytorch_model.bin", "not even a zip file");

  const auto checkpoint = OpenFolder(model);

  EXPECT_THAT(checkpoint->weight_files()[0]->path(),
              ::testing::EndsWith("model.safetensors"));
}

TEST(PytorchCheckpointTest, NamesWhatItLooksFor) {
  const ScratchFolder folder;
  folder.Write("config.json",
               ReadBytes(Testdata("fixtures/mixtral/config.json")));

  const auto checkpoint = Checkpoint::Open(folder.path());

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Message(checkpoint.status()),
            "the model folder has none of model.safetensors, "
            "model.safetensors.index.json, pytorch_model.bin, "
            "pytorch_model.bin.index.json");
}

TEST(PytorchCheckpointTest, RefusesAnIndexThatNamesOtherFiles) {
  const ScratchFolder folder;
  folder.Write("config.json",
               ReadBytes(Testdata("fixtures/mixtral/config.json")));
  folder.Write("pytorch_model.bin.index.json",
               R"({"weight_map": {"a": "../../secret.bin"}})");

  const auto checkpoint = Checkpoint::Open(folder.path());

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(checkpoint.status()),
              AllOf(StartsWith("pytorch_model.bin.index.json: "),
                    HasSubstr("is no plain *.bin file name")));
}

}  // namespace
}  // namespace moescope::model
