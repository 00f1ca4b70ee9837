// A tokenizer.json, and texts through the tokenizer that it makes.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "moescope/model/tokenizer.h"
#include "tests/fuzz/expect.h"

namespace {

constexpr const char* kTexts[] = {
    "", "Hello, world's 123 x\r\n\n  tab\tnbsp\xC2\xA0 end ",
    "\xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80 e\xCC\x81 \xD9\x85<s></s>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data,
                                      std::size_t size) {
  using moescope::fuzz::ExpectRefusal;
  const auto tokenizer = moescope::model::Tokenizer::FromJson(
      {reinterpret_cast<const char*>(data), size});
  if (!tokenizer.ok()) {
    ExpectRefusal(tokenizer.status(), {absl::StatusCode::kDataLoss,
                                       absl::StatusCode::kUnimplemented,
                                       absl::StatusCode::kResourceExhausted});
    return 0;
  }
  for (const char* text : kTexts) {
    const auto ids = (*tokenizer)->Encode(text);
    if (!ids.ok()) {
      ExpectRefusal(ids.status(), {absl::StatusCode::kDataLoss,
                                   absl::StatusCode::kResourceExhausted});
      continue;
    }
    for (const std::int32_t id : *ids) {
      moescope::fuzz::Expect(id >= 0 && id < (*tokenizer)->vocab_size(),
                             "an id is below vocab_size");
      (*tokenizer)->DisplayToken(id);
    }
    const auto decoded = (*tokenizer)->Decode(*ids);
    if (!decoded.ok()) {
      ExpectRefusal(decoded.status(), {absl::StatusCode::kResourceExhausted});
    }
  }
  return 0;
}
