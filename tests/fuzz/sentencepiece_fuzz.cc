// A SentencePiece tokenizer.model, and texts through the tokenizer it makes.
#include <cstddef>
#include <cstdint>

#include "moescope/model/tokenizer.h"
#include "tests/fuzz/expect.h"

namespace {

constexpr const char* kTexts[] = {
    "", "  Hello,  world's 123 x\r\n tab\tnbsp\xC2\xA0 end  ",
    "\xE4\xBD\xA0\xE5\xA5\xBD \xEF\xBC\xA1 e\xCC\x81 \xF0\x9F\x98\x80<s>",
    "abababababababababababababababababababababaaaaaaaaaaaaaaaaaaaaaaaaaa"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data,
                                      std::size_t size) {
  using moescope::fuzz::Expect;
  const auto tokenizer = moescope::model::Tokenizer::FromSentencePiece(
      {reinterpret_cast<const char*>(data), size}, "", "");
  if (!tokenizer.ok()) {
    moescope::fuzz::ExpectRefusal(
        tokenizer.status(), {absl::StatusCode::kDataLoss,
                             absl::StatusCode::kUnimplemented});
    return 0;
  }
  for (const char* text : kTexts) {
    const auto ids = (*tokenizer)->Encode(text);
    if (!ids.ok()) {
      moescope::fuzz::ExpectRefusal(ids.status(),
                                    {absl::StatusCode::kResourceExhausted});
      continue;
    }
    for (const std::int32_t id : *ids) {
      Expect(id >= 0 && id < (*tokenizer)->vocab_size(),
             "an id is below vocab_size");
      (*tokenizer)->DisplayToken(id);
    }
    Expect((*tokenizer)->Decode(*ids).ok(), "what was encoded can be decoded");
  }
  return 0;
}
