// Texts and token lists of a request as sequences of token ids.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/tokenizer.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

constexpr std::int64_t kDefaultSequenceTokens = 1024;

class Cutter {
 public:
  Cutter(const model::Checkpoint& checkpoint, std::int64_t sequence_tokens)
      : checkpoint_(checkpoint), sequence_tokens_(sequence_tokens) {}

  absl::Status Add(const spec::Document& document, const std::string& field) {
    if (document.text.has_value() == document.tokens.has_value()) {
      return InvalidField(field, "needs either text or tokens");
    }
    std::vector<std::int32_t> ids;
    std::optional<std::int32_t> bos;
    if (document.tokens.has_value()) {
      ids = *document.tokens;
    } else {
      MOESCOPE_ASSIGN_OR_RETURN(ids, Encode(document, field));
      bos = checkpoint_.tokenizer()->bos_id();
    }
    if (ids.empty()) {
      return InvalidField(field, "is empty: give text or token ids");
    }
    if (document.cut) {
      Cut(ids, bos, document.label);
    } else {
      AddSequence(ids, document.label);
    }
    return absl::OkStatus();
  }

  spec::TokenInput Take() { return std::move(out_); }

 private:
  absl::StatusOr<std::vector<std::int32_t>> Encode(
      const spec::Document& document, const std::string& field) const {
    if (document.text->empty()) {
      return InvalidField(absl::StrCat(field, ".text"), "is empty");
    }
    if (checkpoint_.tokenizer() == nullptr) {
      const absl::Status& status = checkpoint_.tokenizer_status();
      return FieldError(
          absl::IsUnimplemented(status) ? absl::StatusCode::kUnimplemented
                                        : absl::StatusCode::kFailedPrecondition,
          absl::StrCat(field, ".text"),
          absl::StrCat("the model's tokenizer can't be used (",
                       status.message(), "): send token ids"),
          "NO_TOKENIZER");
    }
    // A text that is cut gets its special tokens sequence by sequence.
    return checkpoint_.tokenizer()->Encode(*document.text, !document.cut);
  }

  void Cut(const std::vector<std::int32_t>& ids,
           std::optional<std::int32_t> bos, const std::string& label) {
    const std::size_t prefix = bos.has_value() ? 1 : 0;
    const auto room = std::max<std::size_t>(
        1, static_cast<std::size_t>(sequence_tokens_) - prefix);
    for (std::size_t begin = 0; begin < ids.size(); begin += room) {
      const std::size_t end = std::min(ids.size(), begin + room);
      std::vector<std::int32_t> sequence;
      if (bos.has_value()) {
        sequence.push_back(*bos);
      }
      sequence.insert(sequence.end(),
                      ids.begin() + static_cast<std::ptrdiff_t>(begin),
                      ids.begin() + static_cast<std::ptrdiff_t>(end));
      AddSequence(sequence, label);
    }
  }

  void AddSequence(const std::vector<std::int32_t>& ids,
                   const std::string& label) {
    out_.ids.insert(out_.ids.end(), ids.begin(), ids.end());
    out_.lengths.push_back(static_cast<std::int64_t>(ids.size()));
    out_.labels.push_back(label);
  }

  const model::Checkpoint& checkpoint_;
  const std::int64_t sequence_tokens_;
  spec::TokenInput out_;
};

}  // namespace

absl::StatusOr<spec::TokenInput> TokeniseDocuments(
    const model::Checkpoint& checkpoint, const spec::DocumentInput& input) {
  const std::int64_t positions = checkpoint.config().max_positions;
  std::int64_t sequence_tokens = input.sequence_tokens;
  if (sequence_tokens == 0) {
    sequence_tokens = std::min(kDefaultSequenceTokens, positions);
  }
  if (sequence_tokens < 2 || sequence_tokens > positions) {
    return FieldError(absl::StatusCode::kOutOfRange, "input.sequence_tokens",
                      absl::StrCat(sequence_tokens, " is outside [2, ",
                                   positions, "]"),
                      "SEQUENCE_TOO_LONG");
  }
  Cutter cutter(checkpoint, sequence_tokens);
  for (std::size_t i = 0; i < input.documents.size(); ++i) {
    MOESCOPE_RETURN_IF_ERROR(
        cutter.Add(input.documents[i], absl::StrCat("input.documents[", i, "]")));
  }
  return cutter.Take();
}

}  // namespace moescope
