#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "moescope/model/safetensors.h"

// Files like those of torch.save, and ones that it never writes.

namespace moescope::model {

/// `value` in `bytes` bytes, little end first; zeros beyond the eighth.
inline std::string LittleEndian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) {
    out += static_cast<char>(i < 8 ? (value >> (8 * i)) & 0xff : 0);
  }
  return out;
}

struct ZipEntry {
  std::string name;
  std::string content;
  int method = 0;
  int flags = 0;
  /// Added to what the central directory says.
  std::int64_t size_error = 0;
  std::int64_t offset_error = 0;
};

/// A zip file of stored entries; with `zip64` all sizes stand in zip64 fields.
inline std::string ZipBytes(const std::vector<ZipEntry>& entries,
                            bool zip64 = false) {
  std::string file;
  std::string central;
  for (const ZipEntry& entry : entries) {
    const auto offset = static_cast<std::uint64_t>(
        static_cast<std::int64_t>(file.size()) + entry.offset_error);
    const auto size = static_cast<std::uint64_t>(
        static_cast<std::int64_t>(entry.content.size()) + entry.size_error);
    const std::string extra =
        zip64 ? LittleEndian(1, 2) + LittleEndian(24, 2) +
                    LittleEndian(size, 8) + LittleEndian(size, 8) +
                    LittleEndian(offset, 8)
              : std::string();
    const std::string head = LittleEndian(static_cast<std::uint64_t>(entry.flags), 2) +
                             LittleEndian(static_cast<std::uint64_t>(entry.method), 2) +
                             LittleEndian(0, 8);
    file += LittleEndian(0x04034b50, 4) + LittleEndian(20, 2) + head +
            LittleEndian(0, 8) + LittleEndian(entry.name.size(), 2) +
            LittleEndian(0, 2) + entry.name + entry.content;
    const std::string sizes = zip64 ? LittleEndian(UINT64_MAX, 8)
                                    : LittleEndian(size, 4) +
                                          LittleEndian(size, 4);
    central += LittleEndian(0x02014b50, 4) + LittleEndian(0, 2) +
               LittleEndian(20, 2) + head + sizes +
               LittleEndian(entry.name.size(), 2) +
               LittleEndian(extra.size(), 2) + LittleEndian(0, 10) +
               (zip64 ? LittleEndian(UINT64_MAX, 4) : LittleEndian(offset, 4)) +
               entry.name + extra;
  }
  const std::uint64_t begin = file.size();
  file += central;
  const std::uint64_t end = file.size();
  if (zip64) {
    file += LittleEndian(0x06064b50, 4) + LittleEndian(44, 8) +
            LittleEndian(0, 12) + LittleEndian(entries.size(), 8) +
            LittleEndian(entries.size(), 8) +
            LittleEndian(central.size(), 8) + LittleEndian(begin, 8) +
            LittleEndian(0x07064b50, 4) + LittleEndian(0, 4) +
            LittleEndian(end, 8) + LittleEndian(1, 4);
    return file + LittleEndian(0x06054b50, 4) + LittleEndian(0, 4) +
           LittleEndian(UINT64_MAX, 4) + LittleEndian(UINT64_MAX, 8) +
           LittleEndian(0, 2);
  }
  return file + LittleEndian(0x06054b50, 4) + LittleEndian(0, 4) +
         LittleEndian(entries.size(), 2) + LittleEndian(entries.size(), 2) +
         LittleEndian(central.size(), 4) + LittleEndian(begin, 4) +
         LittleEndian(0, 2);
}

inline std::string PickleText(const std::string& text) {
  return "X" + LittleEndian(text.size(), 4) + text;
}

inline std::string PickleInteger(std::int64_t value) {
  return std::string("\x8a\x08") +
         LittleEndian(static_cast<std::uint64_t>(value), 8);
}

inline std::string PickleTuple(const std::vector<std::int64_t>& values) {
  std::string out = "(";
  for (const std::int64_t value : values) out += PickleInteger(value);
  return out + "t";
}

/// Opcodes of storage `key` of `elements` of `type` ("FloatStorage").
inline std::string PickleStorage(const std::string& key,
                                 const std::string& type,
                                 std::int64_t elements) {
  return "(" + PickleText("storage") + "ctorch\n" + type + "\n" +
         PickleText(key) + PickleText("cpu") + PickleInteger(elements) + "tQ";
}

/// Opcodes of a tensor in `storage`.
inline std::string PickleTensor(const std::string& storage, std::int64_t offset,
                                const std::vector<std::int64_t>& shape,
                                const std::vector<std::int64_t>& strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage +
         PickleInteger(offset) + PickleTuple(shape) + PickleTuple(strides) +
         "\x89" "ccollections\nOrderedDict\n)RtR";
}

/// A whole pickle of a dictionary; `items` are opcodes of keys and values.
inline std::string PickleDict(const std::string& items) {
  return "\x80\x02}(" + items + "u.";
}

/// The tensors (BF16, F16 and F32 alone) as a pytorch_model.bin.
inline std::string PytorchBytes(
    const std::map<std::string, const TensorEntry*>& tensors) {
  std::vector<ZipEntry> entries = {{"model/data.pkl", ""}};
  std::string items;
  int key = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::string type = tensor->dtype == TensorDtype::kF32 ? "Float"
                             : tensor->dtype == TensorDtype::kF16
                                 ? "Half"
                                 : "BFloat16";
    std::vector<std::int64_t> strides(tensor->shape.size(), 1);
    for (std::size_t i = strides.size(); i-- > 1;) {
      strides[i - 1] = strides[i] * tensor->shape[i];
    }
    items += PickleText(name) +
             PickleTensor(PickleStorage(std::to_string(key), type + "Storage",
                                        tensor->size_bytes /
                                            DtypeSize(tensor->dtype)),
                          0, tensor->shape, strides);
    entries.push_back({"model/data/" + std::to_string(key),
                       std::string(reinterpret_cast<const char*>(tensor->data),
                                   static_cast<std::size_t>(
                                       tensor->size_bytes))});
    ++key;
  }
  entries[0].content = PickleDict(items);
  return ZipBytes(entries);
}

}  // namespace moescope::model
