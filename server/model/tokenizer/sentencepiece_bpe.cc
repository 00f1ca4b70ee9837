#include <queue>
#include <vector>

#include "server/model/tokenizer/sentencepiece_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

namespace moescope::model::internal {

/// Merges the characters of one text: always the pair whose piece scores
/// highest, the leftmost of equals.
class BpeSegmenter {
 public:
  BpeSegmenter(const SentencePieceModel& model, absl::string_view text)
      : model_(model), text_(text) {
    Split();
    for (std::size_t i = 1; i < symbols_.size(); ++i) {
      Propose(static_cast<std::int32_t>(i) - 1, static_cast<std::int32_t>(i));
    }
  }

  SentencePieceModel::Segmentation Run() {
    while (!agenda_.empty()) {
      const Pair pair = agenda_.top();
      agenda_.pop();
      Merge(pair);
    }
    for (std::int32_t i = symbols_.empty() ? -1 : 0; i >= 0;
         i = symbols_[static_cast<std::size_t>(i)].next) {
      Emit(TextOf(symbols_[static_cast<std::size_t>(i)]));
    }
    return std::move(parts_);
  }

 private:
  // A part of the text: a node of a doubly linked list; size 0 once merged.
  struct Symbol {
    std::uint32_t start;
    std::uint32_t size;
    std::int32_t previous;
    std::int32_t next;
    bool is_frozen;  // user-defined: never merged
  };
  struct Pair {
    float score;
    std::int32_t left;
    std::int32_t right;
    std::uint32_t size;
    bool operator<(const Pair& other) const {
      return score != other.score ? score < other.score : left > other.left;
    }
  };
  struct Halves {
    absl::string_view left;
    absl::string_view right;
  };

  absl::string_view TextOf(const Symbol& symbol) const {
    return text_.substr(symbol.start, symbol.size);
  }
  Symbol& At(std::int32_t index) {
    return symbols_[static_cast<std::size_t>(index)];
  }

  void Split() {
    for (std::size_t at = 0; at < text_.size();) {
      const auto own = model_.user_defined_.LongestAt(text_, at);
      const std::size_t size =
          own.has_value() ? own->length : DecodeUtf8(text_, at).length;
      const auto index = static_cast<std::int32_t>(symbols_.size());
      symbols_.push_back({static_cast<std::uint32_t>(at),
                          static_cast<std::uint32_t>(size), index - 1,
                          index + 1, own.has_value()});
      at += size;
    }
    if (!symbols_.empty()) symbols_.back().next = -1;
  }

  void Propose(std::int32_t left, std::int32_t right) {
    if (left < 0 || right < 0) return;
    const Symbol& first = At(left);
    const Symbol& second = At(right);
    if (first.is_frozen || second.is_frozen) return;
    const absl::string_view merged =
        text_.substr(first.start, first.size + second.size);
    const auto id = model_.FindInText(merged);
    if (!id.has_value()) return;
    const SentencePiece& piece = model_.Piece(*id);
    agenda_.push({piece.score, left, right,
                  static_cast<std::uint32_t>(merged.size())});
    if (piece.kind == PieceKind::kUnused) {
      unused_[merged] = {TextOf(first), TextOf(second)};
    }
  }

  void Merge(const Pair& pair) {
    Symbol& left = At(pair.left);
    Symbol& right = At(pair.right);
    if (left.size == 0 || right.size == 0 ||
        left.size + right.size != pair.size) {
      return;  // one of them was merged with another since
    }
    left.size += right.size;
    left.next = right.next;
    if (right.next >= 0) At(right.next).previous = pair.left;
    right.size = 0;
    Propose(left.previous, pair.left);
    Propose(pair.left, left.next);
  }

  // An unused piece only helps to reach longer ones; it falls apart again.
  void Emit(absl::string_view whole) {
    std::vector<absl::string_view> open = {whole};
    while (!open.empty()) {
      const absl::string_view part = open.back();
      open.pop_back();
      const std::int32_t id = model_.Find(part).value_or(model_.unknown_);
      const auto halves = unused_.find(part);
      if (model_.Piece(id).kind == PieceKind::kUnused &&
          halves != unused_.end()) {
        open.push_back(halves->second.right);
        open.push_back(halves->second.left);
      } else {
        parts_.emplace_back(part, id);
      }
    }
  }

  const SentencePieceModel& model_;
  const absl::string_view text_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Pair> agenda_;
  absl::flat_hash_map<absl::string_view, Halves> unused_;
  SentencePieceModel::Segmentation parts_;
};

SentencePieceModel::Segmentation SentencePieceModel::SegmentByBpe(
    absl::string_view text) const {
  return BpeSegmenter(*this, text).Run();
}

}  // namespace moescope::model::internal
