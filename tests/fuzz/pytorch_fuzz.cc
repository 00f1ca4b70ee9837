// A whole pytorch_model.bin: opening it, then reading all that it promises.
#include <cstddef>
#include <cstdint>

#include "moescope/model/pytorch_file.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data,
                                      std::size_t size) {
  using moescope::fuzz::Expect;
  const moescope::fuzz::MemoryFile bytes(data, size);
  const auto file = moescope::model::PytorchFile::Open(bytes.path());
  if (!file.ok()) {
    moescope::fuzz::ExpectRefusal(file.status(),
                                  {absl::StatusCode::kDataLoss,
                                   absl::StatusCode::kUnimplemented});
    return 0;
  }
  for (const auto& [name, tensor] : (*file)->tensors()) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : tensor.shape) elements *= extent;
    Expect(elements * moescope::model::DtypeSize(tensor.dtype) ==
               tensor.size_bytes,
           "a shape gives the size");
    Expect(tensor.size_bytes <= static_cast<std::int64_t>(size),
           "a tensor lies in the file");
    unsigned sum = 0;
    for (std::int64_t i = 0; i < tensor.size_bytes; ++i) {
      sum += static_cast<unsigned>(tensor.data[i]);
    }
    Expect(sum < 256U * (size + 1), "the bytes can be read");
  }
  return 0;
}
