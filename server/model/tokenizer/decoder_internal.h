#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/model/tokenizer/json_node_internal.h"
#include "server/model/tokenizer/regex_internal.h"

namespace moescope::model::internal {

/// One step from tokens to text.
/// Threads: immutable.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  /// What the tokens of a text become, in order.
  virtual absl::StatusOr<std::vector<std::string>> Apply(
      std::vector<std::string> tokens, const RegexBudget& budget) const = 0;
  /// What one token inside a text becomes; the result may be a part of a
  /// character. `token` is valid UTF-8.
  virtual std::string ApplyToOne(std::string token,
                                 const RegexBudget& budget) const = 0;
  virtual bool is_byte_level() const { return false; }
};

/// The "decoder" of a tokenizer.json.
/// Threads: immutable.
class Decoder {
 public:
  /// Errors: UNIMPLEMENTED, DATA_LOSS.
  static absl::StatusOr<Decoder> Parse(const JsonNode& node);

  /// Errors: RESOURCE_EXHAUSTED (a regex).
  absl::StatusOr<std::string> Decode(std::vector<std::string> tokens) const;
  std::string DecodeOne(std::string token) const;
  bool is_byte_level() const;

 private:
  absl::Status Read(const JsonNode& node);

  std::vector<std::unique_ptr<const DecodeStep>> steps_;
  bool is_null_ = true;
};

}  // namespace moescope::model::internal
