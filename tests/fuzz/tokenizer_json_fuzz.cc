// A tokenizer.json, behind a NUL the tokenizer_config.json beside it, and texts
// through the tokenizer that they make.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

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
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  const absl::string_view json = input.substr(0, input.find('\0'));
  const absl::string_view config =
      input.substr(std::min(size, json.size() + 1));
  const auto tokenizer = moescope::model::Tokenizer::FromJson(json, config);
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
