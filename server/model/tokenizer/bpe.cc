#include <algorithm>
#include <functional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/model/tokenizer/bpe_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

std::uint64_t PairKey(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

absl::Status RefuseAffix(const JsonNode& node, const char* name) {
  MOESCOPE_ASSIGN_OR_RETURN(const auto affix, node.OptionalString(name));
  if (affix.has_value() && !affix->empty()) {
    return UnsupportedTokenizer(
        absl::StrCat("option ", node.path(), ".", name, " \"", *affix, "\""));
  }
  return absl::OkStatus();
}

absl::Status RefuseDropout(const JsonNode& node) {
  if (!node.Has("dropout")) {
    return absl::OkStatus();
  }
  const nlohmann::json& dropout = node.value()["dropout"];
  if (!dropout.is_number() || dropout.get<double>() != 0.0) {
    return UnsupportedTokenizer(
        absl::StrCat("option ", node.path(), ".dropout ", dropout.dump()));
  }
  return absl::OkStatus();
}

// Two tokens that may become one; the lowest rank first, then the leftmost.
struct Candidate {
  std::uint32_t rank;
  std::int32_t position;
  std::int32_t id;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Bpe>> Bpe::Parse(const JsonNode& node) {
  // Old files name no type; only BPE has merges.
  if (node.Has("type") || !node.Has("merges")) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::string type, node.Type());
    if (type != "BPE") {
      return node.Unsupported(type);
    }
  }
  MOESCOPE_RETURN_IF_ERROR(
      node.OnlyHas({"type", "dropout", "unk_token", "continuing_subword_prefix",
                    "end_of_word_suffix", "fuse_unk", "byte_fallback",
                    "ignore_merges", "vocab", "merges"}));
  MOESCOPE_RETURN_IF_ERROR(RefuseDropout(node));
  MOESCOPE_RETURN_IF_ERROR(RefuseAffix(node, "continuing_subword_prefix"));
  MOESCOPE_RETURN_IF_ERROR(RefuseAffix(node, "end_of_word_suffix"));
  std::unique_ptr<Bpe> bpe(new Bpe());
  MOESCOPE_ASSIGN_OR_RETURN(bpe->unk_token_, node.OptionalString("unk_token"));
  MOESCOPE_ASSIGN_OR_RETURN(bpe->fuse_unk_, node.Bool("fuse_unk", false));
  MOESCOPE_ASSIGN_OR_RETURN(bpe->byte_fallback_,
                            node.Bool("byte_fallback", false));
  MOESCOPE_ASSIGN_OR_RETURN(bpe->ignore_merges_,
                            node.Bool("ignore_merges", false));
  MOESCOPE_RETURN_IF_ERROR(bpe->ReadVocabulary(node));
  MOESCOPE_RETURN_IF_ERROR(bpe->ReadMerges(node));
  return std::unique_ptr<const Bpe>(std::move(bpe));
}

absl::Status Bpe::ReadVocabulary(const JsonNode& node) {
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode vocab, node.Get("vocab"));
  if (!vocab.value().is_object()) {
    return BrokenTokenizer(vocab.path(), "is not an object");
  }
  for (const auto& entry : vocab.value().items()) {
    const std::string& token = entry.key();
    const JsonNode value(entry.value(),
                         absl::StrCat(vocab.path(), "[\"", token, "\"]"));
    MOESCOPE_ASSIGN_OR_RETURN(const std::int32_t id, value.AsInt(kMaxTokenId));
    const auto index = static_cast<std::size_t>(id);
    if (index >= tokens_.size()) {
      tokens_.resize(index + 1);
    }
    if (tokens_[index].has_value()) {
      return BrokenTokenizer(
          vocab.path(),
          absl::StrCat("gives id ", id, " to both \"", *tokens_[index],
                       "\" and \"", token, "\""));
    }
    tokens_[index] = token;
    ids_.emplace(token, id);
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = Find(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const JsonNode& node) {
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode merges, node.Get("merges"));
  if (!merges.value().is_array()) {
    return BrokenTokenizer(merges.path(), "is not an array");
  }
  std::uint32_t rank = 0;
  for (const nlohmann::json& merge : merges.value()) {
    const std::string where = absl::StrCat(merges.path(), "[", rank, "]");
    const auto* const text = merge.get_ptr<const std::string*>();
    if (text != nullptr && absl::StartsWith(*text, "#version")) {
      continue;
    }
    if (text != nullptr) {
      const std::size_t space = text->find(' ');
      if (space == std::string::npos ||
          text->find(' ', space + 1) != std::string::npos) {
        return BrokenTokenizer(
            where, absl::StrCat("is \"", *text, "\", not two tokens"));
      }
      MOESCOPE_RETURN_IF_ERROR(AddMerge(text->substr(0, space),
                                        text->substr(space + 1), rank, where));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      MOESCOPE_RETURN_IF_ERROR(AddMerge(merge[0].get<std::string>(),
                                        merge[1].get<std::string>(), rank,
                                        where));
    } else {
      return BrokenTokenizer(where, "is not two tokens");
    }
    ++rank;
  }
  return absl::OkStatus();
}

absl::Status Bpe::AddMerge(const std::string& left, const std::string& right,
                           std::uint32_t rank, const std::string& where) {
  for (const std::string& token : {left, right, left + right}) {
    if (!ids_.contains(token)) {
      return BrokenTokenizer(
          where,
          absl::StrCat("merges \"", left, "\" and \"", right, "\", but \"",
                       token, "\" is not in the vocabulary"));
    }
  }
  // The last of equal merges counts, as in the library.
  merges_[PairKey(ids_[left], ids_[right])] = {rank, ids_[left + right]};
  return absl::OkStatus();
}

std::optional<std::int32_t> Bpe::Find(absl::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::make_optional(found->second);
}

const std::string* Bpe::Token(std::int32_t id) const {
  if (id < 0 || id >= size() ||
      !tokens_[static_cast<std::size_t>(id)].has_value()) {
    return nullptr;
  }
  return &*tokens_[static_cast<std::size_t>(id)];
}

const Bpe::Merge* Bpe::FindMerge(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

bool Bpe::AppendBytes(absl::string_view character,
                      std::vector<std::int32_t>& ids) const {
  const auto id_of = [this](char byte) {
    return byte_ids_[static_cast<unsigned char>(byte)];
  };
  if (!std::all_of(character.begin(), character.end(),
                   [&](char byte) { return id_of(byte) >= 0; })) {
    return false;
  }
  for (const char byte : character) {
    ids.push_back(id_of(byte));
  }
  return true;
}

absl::StatusOr<std::vector<Bpe::Symbol>> Bpe::Characters(
    absl::string_view word) const {
  std::vector<std::int32_t> ids;
  ids.reserve(word.size());
  bool unknown_pending = false;
  std::int32_t unknown = -1;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t length = DecodeUtf8(word, at).length;
    const absl::string_view character = word.substr(at, length);
    at += length;
    if (const auto id = Find(character); id.has_value()) {
      if (unknown_pending) {
        ids.push_back(unknown);
        unknown_pending = false;
      }
      ids.push_back(*id);
      continue;
    }
    // An unknown character that waits stays behind these bytes: so the library.
    if (byte_fallback_ && AppendBytes(character, ids)) {
      continue;
    }
    if (!unk_token_.has_value()) {
      continue;
    }
    const auto unk_id = Find(*unk_token_);
    if (!unk_id.has_value()) {
      return BrokenTokenizer(
          "tokenizer.json: model.unk_token",
          absl::StrCat("\"", *unk_token_, "\" is not in the vocabulary"));
    }
    unknown = *unk_id;
    if (unknown_pending && !fuse_unk_) {
      ids.push_back(unknown);
    }
    unknown_pending = true;
  }
  if (unknown_pending) {
    ids.push_back(unknown);
  }
  std::vector<Symbol> symbols;
  symbols.reserve(ids.size());
  for (const std::int32_t id : ids) {
    const auto position = static_cast<std::int32_t>(symbols.size());
    symbols.push_back({id, position - 1, position + 1, false});
  }
  if (!symbols.empty()) {
    symbols.back().next = -1;
  }
  return symbols;
}

void Bpe::MergeAll(std::vector<Symbol>& symbols) const {
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto at = [&symbols](std::int32_t position) -> Symbol& {
    return symbols[static_cast<std::size_t>(position)];
  };
  const auto consider = [&](std::int32_t position) {
    const Merge* const merge =
        FindMerge(at(position).id, at(at(position).next).id);
    if (merge != nullptr) {
      queue.push({merge->rank, position, merge->id});
    }
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    consider(static_cast<std::int32_t>(i));
  }
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = at(top.position);
    if (left.merged || left.next < 0) {
      continue;
    }
    Symbol& right = at(left.next);
    // The pair may have changed since it was queued.
    const Merge* const merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) {
      continue;
    }
    left.id = top.id;
    left.next = right.next;
    right.merged = true;
    if (left.next >= 0) {
      at(left.next).previous = top.position;
    }
    if (left.previous >= 0) {
      consider(left.previous);
    }
    if (left.next >= 0) {
      consider(top.position);
    }
  }
}

absl::StatusOr<std::vector<std::int32_t>> Bpe::Encode(
    absl::string_view word) const {
  if (ignore_merges_) {
    if (const auto id = Find(word); id.has_value()) {
      return std::vector<std::int32_t>{*id};
    }
  }
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<Symbol> symbols, Characters(word));
  MergeAll(symbols);
  std::vector<std::int32_t> ids;
  for (const Symbol& symbol : symbols) {
    if (!symbol.merged) {
      ids.push_back(symbol.id);
    }
  }
  return ids;
}

}  // namespace moescope::model::internal
