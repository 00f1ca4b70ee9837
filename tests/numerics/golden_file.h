#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace moescope::numerics {

/// tests/testdata/numerics/mixtral_layer0.safetensors: weights, activations
/// and routing of a small model's first layer, and under "expected." what the
/// reference implementation makes of them.
class GoldenFile {
 public:
  GoldenFile() {
    std::ifstream file(MOESCOPE_SOURCE_DIR
                       "/tests/testdata/numerics/mixtral_layer0.safetensors",
                       std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    std::uint64_t size = 0;
    std::memcpy(&size, bytes_.data(), sizeof size);
    header_ = nlohmann::json::parse(bytes_.substr(8, size));
    data_ = 8 + size;
  }

  template <typename T>
  std::vector<T> Read(const std::string& name) const {
    const auto& offsets = header_.at(name).at("data_offsets");
    const auto begin = offsets[0].get<std::size_t>();
    const auto end = offsets[1].get<std::size_t>();
    std::vector<T> values((end - begin) / sizeof(T));
    std::memcpy(values.data(), bytes_.data() + data_ + begin, end - begin);
    return values;
  }

 private:
  std::string bytes_;
  nlohmann::json header_;
  std::size_t data_ = 0;
};

}  // namespace moescope::numerics
