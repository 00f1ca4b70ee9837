// A config.json, and the family it names looking for its tensors where there
// are none.
#include <cstddef>

#include "moescope/model/config.h"
#include "server/model/families/family_internal.h"
#include "server/model/layer_tensors_internal.h"
#include "server/model/tensor_binder_internal.h"
#include "tests/fuzz/expect.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data,
                                      std::size_t size) {
  namespace model = moescope::model;
  using moescope::fuzz::Expect;
  const auto config =
      model::ParseConfig({reinterpret_cast<const char*>(data), size});
  if (!config.ok()) {
    moescope::fuzz::ExpectRefusal(config.status(),
                                  {absl::StatusCode::kDataLoss,
                                   absl::StatusCode::kUnimplemented});
    return 0;
  }
  Expect(static_cast<std::int64_t>(config->layers.size()) == config->num_layers,
         "every layer is described");
  Expect(!model::DescribeRouter(*config).empty(), "the router has words");
  const model::internal::TensorMap none;
  for (const model::internal::Family& family : model::internal::Families()) {
    if (family.name != config->family) continue;
    model::internal::ModelTensors tensors;
    tensors.layers.resize(config->layers.size());
    const model::internal::TensorBinder binder(*config, none);
    for (const auto bind : {family.bind_blocks, family.bind_rest}) {
      moescope::fuzz::ExpectRefusal(bind(binder, tensors),
                                    {absl::StatusCode::kFailedPrecondition,
                                     absl::StatusCode::kDataLoss,
                                     absl::StatusCode::kUnimplemented});
    }
  }
  return 0;
}
