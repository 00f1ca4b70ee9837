#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace moescope::spec {

/// One text of a request, before it is tokenised.
struct InputDocument {
  std::string label;  ///< Groups documents in statistics; empty: none.
  /// UTF-8 text, or token ids that are taken as they are.
  std::variant<std::string, std::vector<std::int32_t>> content;
  /// Cut into sequences of Input::sequence_tokens; else one sequence.
  bool cut = false;
};

/// What a client wants to send through a model, as it wrote it. The service
/// makes a TokenInput of it.
struct Input {
  std::vector<InputDocument> documents;
  /// Length of the sequences of a cut document, BOS included; 0: the smaller of
  /// 1024 and the model's positions.
  std::int32_t sequence_tokens = 0;
};

}  // namespace moescope::spec
