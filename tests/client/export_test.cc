#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "client/export/result_document.h"

namespace moescope::client {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

ResultDocument Sample() {
  ResultDocument document;
  const std::vector<float> logits = {0.1f, -2.0f, 3.5f, 4.0f};
  document.arrays.push_back(spec::MakeArray("layer.0.router_logits", {2, 2},
                                            absl::MakeConstSpan(logits)));
  document.arrays.push_back(spec::MakeCount("tokens", 7));
  document.metadata = {{"analysis", "routing_trace"}};
  return document;
}

std::uint64_t Little(const std::string& bytes, std::size_t at, int count) {
  std::uint64_t value = 0;
  for (int i = count - 1; i >= 0; --i) {
    value = (value << 8) |
            static_cast<unsigned char>(bytes[at + static_cast<std::size_t>(i)]);
  }
  return value;
}

TEST(SafetensorsTest, HoldsHeaderAndExactBytes) {
  const ResultDocument document = Sample();

  const std::string bytes = *Encode(document, FileFormat::kSafetensors);

  const std::uint64_t length = Little(bytes, 0, 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_THAT(
      bytes.substr(8, length),
      StartsWith("{\"__metadata__\":{\"analysis\":\"routing_trace\"},"
                 "\"layer.0.router_logits\":{\"dtype\":\"F32\",\"shape\":[2,2],"
                 "\"data_offsets\":[0,16]},\"tokens\":{\"dtype\":\"I64\","
                 "\"shape\":[],\"data_offsets\":[16,24]}}"));
  EXPECT_EQ(bytes.substr(8 + length),
            document.arrays[0].bytes + document.arrays[1].bytes);
}

TEST(NpzTest, StoresEachArrayAsAnAlignedNpyFile) {
  const ResultDocument document = Sample();

  const std::string bytes = *Encode(document, FileFormat::kNpz);

  ASSERT_EQ(bytes.substr(0, 4), std::string("PK\x03\x04", 4));
  EXPECT_EQ(Little(bytes, 8, 2), 0u);    // stored
  EXPECT_EQ(Little(bytes, 26, 2), 25u);  // length of the name
  EXPECT_EQ(bytes.substr(30, 25), "layer.0.router_logits.npy");
  const std::string npy = bytes.substr(55, Little(bytes, 18, 4));
  EXPECT_EQ(npy.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_EQ((10 + Little(npy, 8, 2)) % 64, 0u);
  EXPECT_THAT(npy.substr(10),
              StartsWith("{'descr': '<f4', 'fortran_order': False, 'shape': "
                         "(2, 2), }"));
  EXPECT_EQ(npy.substr(10 + Little(npy, 8, 2)), document.arrays[0].bytes);
}

TEST(NpzTest, EndsWithADirectoryOfAllMembers) {
  const std::string bytes = *Encode(Sample(), FileFormat::kNpz);

  const std::size_t end = bytes.size() - 22;
  EXPECT_EQ(bytes.substr(end, 4), std::string("PK\x05\x06", 4));
  EXPECT_EQ(Little(bytes, end + 8, 2), 3u);  // two arrays and the metadata
  EXPECT_EQ(Little(bytes, end + 12, 4) + Little(bytes, end + 16, 4), end);
  EXPECT_EQ(bytes.substr(Little(bytes, end + 16, 4), 4),
            std::string("PK\x01\x02", 4));
}

TEST(NpzTest, ChecksumIsTheCrc32OfTheMember) {
  ResultDocument document;
  document.arrays.push_back(spec::MakeCount("n", 1));

  const std::string bytes = *Encode(document, FileFormat::kNpz);

  // zlib.crc32 of numpy's file for the int64 1, by Python's zlib.
  EXPECT_EQ(Little(bytes, 14, 4), 0xaa9fb1a4u);
}

TEST(JsonTest, NestsRowsAndPutsMetadataOnTop) {
  EXPECT_EQ(*Encode(Sample(), FileFormat::kJson),
            "{\"analysis\":\"routing_trace\",\n\"arrays\":{\n"
            "\"layer.0.router_logits\":{\"dtype\":\"float32\",\"shape\":[2,2],"
            "\"values\":[[0.1,-2],[3.5,4]]},\n"
            "\"tokens\":{\"dtype\":\"int64\",\"shape\":[],\"values\":7}}}\n");
}

TEST(JsonTest, NonFiniteValuesAreNullAndCounted) {
  ResultDocument document;
  document.arrays.push_back(
      spec::MakeScalar("x", std::numeric_limits<double>::quiet_NaN()));

  EXPECT_THAT(*Encode(document, FileFormat::kJson),
              HasSubstr("\"non_finite\":1,\"values\":null"));
}

TEST(JsonLinesTest, HasOneObjectPerLine) {
  EXPECT_EQ(*Encode(Sample(), FileFormat::kJsonLines),
            "{\"metadata\":{\"analysis\":\"routing_trace\"}}\n"
            "{\"name\":\"layer.0.router_logits\",\"dtype\":\"float32\","
            "\"shape\":[2,2],\"values\":[[0.1,-2],[3.5,4]]}\n"
            "{\"name\":\"tokens\",\"dtype\":\"int64\",\"shape\":[],"
            "\"values\":7}\n");
}

TEST(CsvTest, HasOneValuePerLineWithItsIndices) {
  EXPECT_EQ(*Encode(Sample(), FileFormat::kCsv),
            "name,i0,i1,value\n"
            "layer.0.router_logits,0,0,0.1\n"
            "layer.0.router_logits,0,1,-2\n"
            "layer.0.router_logits,1,0,3.5\n"
            "layer.0.router_logits,1,1,4\n"
            "tokens,,,7\n");
}

TEST(FileFormatTest, IsToldByTheExtension) {
  EXPECT_EQ(*FormatOfPath("/a.b/t.safetensors"), FileFormat::kSafetensors);
  EXPECT_EQ(*FormatOfPath("x.jsonl"), FileFormat::kJsonLines);
}

TEST(FileFormatTest, UnknownExtensionNamesTheAllowedOnes) {
  const auto format = FormatOfPath("/a.csv/t");

  EXPECT_EQ(format.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(format.status().message()),
              HasSubstr("safetensors, npz, json, jsonl, csv"));
}

TEST(AddArraysTest, LeavesOutANameThatIsThere) {
  ResultDocument document = Sample();

  AddArrays({spec::MakeCount("tokens", 9), spec::MakeCount("more", 1)},
            document);

  ASSERT_EQ(document.arrays.size(), 3u);
  EXPECT_EQ(document.arrays[1].bytes[0], 7);
  EXPECT_EQ(document.arrays[2].name, "more");
}

}  // namespace
}  // namespace moescope::client
