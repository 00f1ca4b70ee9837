#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moescope::spec {

/// One text or token list as a client gives it.
struct Document {
  std::string label;
  /// Exactly one of the two is set.
  std::optional<std::string> text;
  std::optional<std::vector<std::int32_t>> tokens;
  /// Cut a long text into sequences; otherwise the document is one sequence.
  bool cut = false;
};

/// What a client wants to send through a model, before tokenisation.
struct DocumentInput {
  std::vector<Document> documents;
  /// Length of sequences that a cut document becomes; 0: the smaller of 1024
  /// and the model's positions.
  std::int64_t sequence_tokens = 0;
};

}  // namespace moescope::spec
