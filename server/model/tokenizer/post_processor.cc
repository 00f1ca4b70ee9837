#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/model/tokenizer/post_processor_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

absl::StatusOr<std::vector<std::int32_t>> SpecialIds(const JsonNode& processor,
                                                     const std::string& name,
                                                     std::int32_t vocab_size) {
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode specials,
                            processor.Get("special_tokens"));
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode special, specials.Get(name.c_str()));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<JsonNode> nodes,
                            special.List("ids"));
  std::vector<std::int32_t> ids;
  for (const JsonNode& node : nodes) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::int32_t id,
                              node.AsInt(vocab_size - 1));
    ids.push_back(id);
  }
  return ids;
}

}  // namespace

absl::Status PostProcessor::ReadTemplate(const JsonNode& node,
                                         std::int32_t vocab_size) {
  MOESCOPE_RETURN_IF_ERROR(
      node.OnlyHas({"type", "single", "pair", "special_tokens"}));
  if (!parts_.empty()) {
    return UnsupportedTokenizer(
        absl::StrCat(node.path(), " \"TemplateProcessing\" after another one"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<JsonNode> pieces,
                            node.List("single"));
  for (const JsonNode& piece : pieces) {
    MOESCOPE_RETURN_IF_ERROR(piece.OnlyHas({"Sequence", "SpecialToken"}));
    Part part;
    if (piece.Has("Sequence")) {
      MOESCOPE_ASSIGN_OR_RETURN(const JsonNode sequence, piece.Get("Sequence"));
      MOESCOPE_ASSIGN_OR_RETURN(const std::string id, sequence.String("id"));
      if (id != "A") {
        return BrokenTokenizer(
            sequence.path(),
            absl::StrCat("is sequence \"", id, "\"; there is only \"A\""));
      }
      part.is_text = true;
    } else {
      MOESCOPE_ASSIGN_OR_RETURN(const JsonNode special,
                                piece.Get("SpecialToken"));
      MOESCOPE_ASSIGN_OR_RETURN(const std::string id, special.String("id"));
      MOESCOPE_ASSIGN_OR_RETURN(part.ids, SpecialIds(node, id, vocab_size));
    }
    parts_.push_back(std::move(part));
  }
  return absl::OkStatus();
}

absl::Status PostProcessor::Read(const JsonNode& node,
                                 std::int32_t vocab_size) {
  if (node.IsNull()) {
    return absl::OkStatus();
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::string type, node.Type());
  if (type == "Sequence") {
    MOESCOPE_RETURN_IF_ERROR(node.OnlyHas({"type", "processors"}));
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<JsonNode> nodes,
                              node.List("processors"));
    for (const JsonNode& processor : nodes) {
      MOESCOPE_RETURN_IF_ERROR(Read(processor, vocab_size));
    }
    return absl::OkStatus();
  }
  if (type == "TemplateProcessing") {
    return ReadTemplate(node, vocab_size);
  }
  // ByteLevel moves offsets, no ids.
  if (type == "ByteLevel") {
    return absl::OkStatus();
  }
  return node.Unsupported(type);
}

absl::StatusOr<PostProcessor> PostProcessor::Parse(const JsonNode& node,
                                                   std::int32_t vocab_size) {
  PostProcessor processor;
  MOESCOPE_RETURN_IF_ERROR(processor.Read(node, vocab_size));
  return processor;
}

PostProcessor PostProcessor::Around(std::optional<std::int32_t> bos,
                                    std::optional<std::int32_t> eos) {
  PostProcessor processor;
  if (bos.has_value()) processor.parts_.push_back({false, {*bos}});
  processor.parts_.push_back({true, {}});
  if (eos.has_value()) processor.parts_.push_back({false, {*eos}});
  return processor;
}

std::vector<std::int32_t> PostProcessor::Apply(std::vector<std::int32_t> ids,
                                               bool add_special_tokens) const {
  if (parts_.empty()) {
    return ids;
  }
  std::vector<std::int32_t> all;
  for (const Part& part : parts_) {
    if (part.is_text) {
      all.insert(all.end(), ids.begin(), ids.end());
    } else if (add_special_tokens) {
      all.insert(all.end(), part.ids.begin(), part.ids.end());
    }
  }
  return all;
}

std::optional<std::int32_t> PostProcessor::FirstSpecial() const {
  if (parts_.empty() || parts_[0].is_text || parts_[0].ids.empty()) {
    return std::nullopt;
  }
  return parts_[0].ids[0];
}

}  // namespace moescope::model::internal
