#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moescope::spec {

/// Token ids that go through a model: whole sequences, one after the other.
/// Text never stands in a Spec: the service tokenises it while normalising, so
/// equal ids give equal keys.
struct TokenInput {
  std::vector<std::int32_t> ids;      ///< [T]
  std::vector<std::int64_t> lengths;  ///< Sequence lengths; sum T.
  /// Label of each sequence's document ("" where none was given); empty or one
  /// per sequence. Part of the Spec, and so of the key; no analysis reads it.
  std::vector<std::string> labels;

  bool empty() const { return ids.empty(); }
};

bool operator==(const TokenInput& a, const TokenInput& b);

/// SHA-256 over ids, lengths and labels, length-prefixed; 64 hex digits.
std::string TokensDigest(const TokenInput& input);

}  // namespace moescope::spec
