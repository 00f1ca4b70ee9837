#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "tests/model/safetensors_bytes.h"

namespace moescope::model {

/// A file that must be refused with DATA_LOSS, and what the message must say.
struct MalformedFile {
  const char* name;
  std::string bytes;
  std::string cause;
};

// Without it gtest prints bytes, addresses among them, into test names.
inline void PrintTo(const MalformedFile& row, std::ostream* out) { *out << row.name; }

/// Header text around a single tensor "a".
inline std::string OneTensor(const std::string& fields) {
  return R"({"a":{)" + fields + "}}";
}

inline std::vector<MalformedFile> MalformedLengths() {
  const std::string valid =
      OneTensor(R"("dtype":"U8","shape":[4],"data_offsets":[0,4])");
  return {
      {"empty", "", "0 bytes are too few"},
      {"seven_bytes", "1234567", "7 bytes are too few"},
      {"length_only", LengthField(0), "does not begin with '{'"},
      {"length_beyond_file", LengthField(100) + "{}", "reaches beyond"},
      {"length_one_beyond", LengthField(3) + "{}", "reaches beyond"},
      {"length_above_limit", LengthField(100'000'001) + "{}",
       "header length 100000001 at offset 0 is above 100000000"},
      {"length_all_ones", LengthField(~std::uint64_t{0}) + "{}",
       "header length 18446744073709551615"},
      {"length_sign_bit", LengthField(std::uint64_t{1} << 63) + "{}",
       "is above 100000000"},
      {"big_endian_length", std::string("\0\0\0\0\0\0\0\2{}", 10), "is above"},
      {"truncated_data", SafetensorsBytes(valid, "123"),
       "lie beyond the file's 3 data bytes"},
      {"truncated_header", LengthField(valid.size()) + valid.substr(0, 20),
       "reaches beyond"},
      {"bytes_after_the_end", SafetensorsBytes(valid, "12345"),
       "ends at offset 4, but the file has 5 data bytes"},
      {"data_without_tensors", SafetensorsBytes("{}", "1"),
       "ends at offset 0, but the file has 1 data bytes"},
  };
}

inline std::vector<MalformedFile> MalformedJson() {
  const std::string good =
      R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  return {
      {"array_header", SafetensorsBytes("[]", ""), "does not begin with '{'"},
      {"space_before_header", SafetensorsBytes(" {}", ""),
       "does not begin with '{'"},
      {"byte_order_mark", SafetensorsBytes("\xEF\xBB\xBF{}", ""),
       "does not begin with '{'"},
      {"unclosed", SafetensorsBytes("{", ""), "not valid JSON near byte"},
      {"garbage_after", SafetensorsBytes("{} x", ""), "not valid JSON"},
      {"second_object", SafetensorsBytes("{}{}", ""), "not valid JSON"},
      {"nul_padding", SafetensorsBytes(std::string("{}\0\0", 4), ""),
       "not valid JSON near byte 3"},
      {"invalid_utf8", SafetensorsBytes("{\"\xff\":1}", ""), "not valid JSON"},
      {"lone_surrogate", SafetensorsBytes(R"({"\ud800":1})", ""),
       "not valid JSON"},
      {"comment", SafetensorsBytes("{/**/}", ""), "not valid JSON"},
      {"deep_nesting", SafetensorsBytes("{\"a\":" + std::string(100'000, '['),
                                        ""),
       "tensor \"a\": is an array, not an object"},
      {"duplicate_tensor",
       SafetensorsBytes("{" + good + "," + good + "}", "1"),
       "duplicate tensor name \"a\""},
      {"metadata_number",
       SafetensorsBytes(R"({"__metadata__":{"k":1}})", ""),
       "__metadata__ key \"k\" is a number, not a string"},
      {"metadata_nested",
       SafetensorsBytes(R"({"__metadata__":{"k":{}}})", ""),
       "__metadata__ key \"k\" is an object"},
      {"metadata_duplicate_key",
       SafetensorsBytes(R"({"__metadata__":{"k":"1","k":"2"}})", ""),
       "__metadata__ holds key \"k\" twice"},
      {"metadata_twice",
       SafetensorsBytes(R"({"__metadata__":{},"__metadata__":{}})", ""),
       "duplicate tensor name \"__metadata__\""},
  };
}

inline std::vector<MalformedFile> MalformedTensors() {
  const auto file = [](const std::string& fields, const std::string& data) {
    return SafetensorsBytes(OneTensor(fields), data);
  };
  return {
      {"tensor_is_number", SafetensorsBytes(R"({"a":1})", ""),
       "tensor \"a\": is a number, not an object"},
      {"tensor_is_null", SafetensorsBytes(R"({"a":null})", ""),
       "tensor \"a\": is null"},
      {"dtype_missing", file(R"("shape":[],"data_offsets":[0,1])", "1"),
       "tensor \"a\": dtype is missing"},
      {"shape_missing", file(R"("dtype":"U8","data_offsets":[0,1])", "1"),
       "tensor \"a\": shape is missing"},
      {"offsets_missing", file(R"("dtype":"U8","shape":[1])", "1"),
       "tensor \"a\": data_offsets is missing"},
      {"dtype_unknown",
       file(R"("dtype":"F128","shape":[1],"data_offsets":[0,16])", "1"),
       "tensor \"a\": unknown dtype \"F128\""},
      {"dtype_lower_case",
       file(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])", "1234"),
       "unknown dtype \"f32\""},
      {"dtype_number",
       file(R"("dtype":3,"shape":[1],"data_offsets":[0,4])", "1234"),
       "dtype is a number, not a string"},
      {"dtype_twice",
       file(R"("dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1])",
            "1"),
       "key dtype stands twice"},
      {"unknown_key",
       file(R"("dtype":"U8","shape":[1],"strides":[1],"data_offsets":[0,1])",
            "1"),
       "unknown key \"strides\""},
      {"shape_string",
       file(R"("dtype":"U8","shape":"1","data_offsets":[0,1])", "1"),
       "shape is a string, not an array"},
      {"shape_negative",
       file(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])", "1"),
       "shape holds a negative number"},
      {"shape_fraction",
       file(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])", "1"),
       "shape holds a number that is no 64-bit integer"},
      {"shape_nested",
       file(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])", "1"),
       "shape holds an array"},
      {"shape_above_int64",
       file(R"("dtype":"U8","shape":[9223372036854775808],)"
            R"("data_offsets":[0,1])", "1"),
       "shape holds 9223372036854775808, which is beyond 2^63 - 1"},
      {"shape_above_uint64",
       file(R"("dtype":"U8","shape":[18446744073709551616],)"
            R"("data_offsets":[0,1])", "1"),
       "shape holds a number that is no 64-bit integer"},
      {"shape_overflows",
       file(R"("dtype":"F32","shape":[4294967296,4294967296],)"
            R"("data_offsets":[0,0])", ""),
       "has more than 2^63 - 1 bytes"},
      {"shape_overflows_before_zero",
       file(R"("dtype":"F32","shape":[4294967296,4294967296,0],)"
            R"("data_offsets":[0,0])", ""),
       "has more than 2^63 - 1 bytes"},
      {"rank_17",
       file(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],)"
            R"("data_offsets":[0,1])", "1"),
       "shape has more than 16 numbers"},
      {"size_differs",
       file(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])", "1234"),
       "shape [2] of F32 has 8 bytes, but data_offsets [0, 4] hold 4"},
      {"one_offset",
       file(R"("dtype":"U8","shape":[1],"data_offsets":[0])", "1"),
       "data_offsets has 1 numbers, not 2"},
      {"three_offsets",
       file(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])", "1"),
       "data_offsets has 3 numbers, not 2"},
      {"negative_offset",
       file(R"("dtype":"U8","shape":[1],"data_offsets":[-1,0])", "1"),
       "data_offsets holds a negative number"},
      {"offsets_reversed",
       file(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])", "1"),
       "data_offsets [1, 0] end before they begin"},
      {"offset_beyond_file",
       file(R"("dtype":"U8","shape":[1],"data_offsets":[7,8])", "1"),
       "data_offsets [7, 8] lie beyond the file's 1 data bytes"},
      {"huge_offset",
       file(R"("dtype":"U8","shape":[1],)"
            R"("data_offsets":[9223372036854775806,9223372036854775807])",
            "1"),
       "lie beyond the file's 1 data bytes"},
      {"hole_before",
       file(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])", "12"),
       "tensor \"a\": data_offsets [1, 2] leave a hole after offset 0"},
      {"hole_between",
       SafetensorsBytes(
           R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
           R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})", "123"),
       "tensor \"b\": data_offsets [2, 3] leave a hole after offset 1"},
      {"overlap",
       SafetensorsBytes(
           R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
           R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", "123"),
       "tensor \"b\": data_offsets [1, 3] overlap another tensor, which ends "
       "at 2"},
      {"same_bytes_twice",
       SafetensorsBytes(
           R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
           R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "12"),
       "tensor \"b\": data_offsets [0, 2] overlap"},
  };
}

inline std::vector<MalformedFile> MalformedCorpus() {
  std::vector<MalformedFile> all = MalformedLengths();
  for (auto& file : MalformedJson()) all.push_back(file);
  for (auto& file : MalformedTensors()) all.push_back(file);
  return all;
}

}  // namespace moescope::model
