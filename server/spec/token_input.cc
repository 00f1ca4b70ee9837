#include "moescope/spec/token_input.h"

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"

#include "moescope/base/sha256.h"

namespace moescope::spec {
namespace {

void AddLength(Sha256& hash, std::uint64_t length) {
  char bytes[sizeof(length)];
  std::memcpy(bytes, &length, sizeof(length));
  hash.Update(absl::string_view(bytes, sizeof(bytes)));
}

template <typename T>
void AddValues(Sha256& hash, const std::vector<T>& values) {
  AddLength(hash, values.size());
  hash.Update(absl::string_view(reinterpret_cast<const char*>(values.data()),
                                values.size() * sizeof(T)));
}

}  // namespace

bool operator==(const TokenInput& a, const TokenInput& b) {
  return a.ids == b.ids && a.lengths == b.lengths && a.labels == b.labels;
}

std::string TokensDigest(const TokenInput& input) {
  Sha256 hash;
  AddValues(hash, input.ids);
  AddValues(hash, input.lengths);
  AddLength(hash, input.labels.size());
  for (const std::string& label : input.labels) {
    AddLength(hash, label.size());
    hash.Update(label);
  }
  return hash.HexDigest();
}

}  // namespace moescope::spec
