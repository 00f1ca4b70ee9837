#include "moescope/spec/token_input.h"

#include <cstddef>

#include "absl/strings/string_view.h"

#include "moescope/base/sha256.h"

namespace moescope::spec {
namespace {

// Collects bytes so that the hash is not called per number.
class Feed {
 public:
  void Number(std::uint64_t value, int num_bytes) {
    for (int i = 0; i < num_bytes; ++i) {
      buffer_.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
    }
    if (buffer_.size() >= kFlushBytes) {
      Flush();
    }
  }
  void Text(absl::string_view text) {
    Number(text.size(), 8);
    Flush();
    hash_.Update(text);
  }
  std::string Digest() {
    Flush();
    return hash_.HexDigest();
  }

 private:
  static constexpr std::size_t kFlushBytes = 1 << 16;
  void Flush() {
    hash_.Update(buffer_);
    buffer_.clear();
  }
  Sha256 hash_;
  std::string buffer_;
};

}  // namespace

bool operator==(const TokenInput& a, const TokenInput& b) {
  return a.ids == b.ids && a.lengths == b.lengths && a.labels == b.labels;
}

// Every list is preceded by its length, every number little-endian, so that no
// two inputs feed the same bytes.
std::string TokensDigest(const TokenInput& input) {
  Feed feed;
  feed.Number(input.ids.size(), 8);
  for (const std::int32_t id : input.ids) {
    feed.Number(static_cast<std::uint32_t>(id), 4);
  }
  feed.Number(input.lengths.size(), 8);
  for (const std::int64_t length : input.lengths) {
    feed.Number(static_cast<std::uint64_t>(length), 8);
  }
  feed.Number(input.labels.size(), 8);
  for (const std::string& label : input.labels) {
    feed.Text(label);
  }
  return feed.Digest();
}

}  // namespace moescope::spec
