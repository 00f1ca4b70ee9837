#include <ATen/Version.h>
#include <c10/core/Device.h>
#include <torch/version.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/model/forward_kernels_internal.h"

#include "moescope/model/compute_info.h"
#include "moescope/model/model.h"
#include "moescope/numerics/instruction_set.h"
#include "moescope/numerics/neuron_cosine.h"

namespace moescope::model {
namespace {

// Raised whenever the arithmetic of this layer changes in its last bits.
constexpr int kForwardVersion = 1;
// The same of neurons matched on a GPU.
constexpr int kDeviceMatchingVersion = 1;

// "AVX512": which variant of torch's own loops runs here. show_config is the
// one place that says so in every supported torch.
std::string InstructionSet() {
  const std::string config = at::show_config();
  constexpr absl::string_view kMark = "CPU capability usage: ";
  const std::size_t mark = config.find(std::string(kMark));
  if (mark == std::string::npos) {
    return "unknown";
  }
  const std::size_t begin = mark + kMark.size();
  return config.substr(begin, config.find('\n', begin) - begin);
}

}  // namespace

std::string NumericsClass(const std::string& device) {
  const c10::Device place(device);
  const internal::TileShape shape = internal::TileShapeFor(place);
  // One library decides the products: on a GPU it belongs to torch's build.
  std::string library = "torch";
  std::string matching = absl::StrCat(" matching=", kDeviceMatchingVersion);
  if (place.is_cpu()) {
    const LoadedBlas blas = DescribeBlas();
    library = absl::StrCat(blas.library, "/", blas.core);
    matching.clear();
  }
  return absl::StrCat(
      "fp32 ", place.is_cpu() ? "cpu" : "cuda", " simd=", InstructionSet(),
      " kernels=", numerics::KernelClass(),
      " neurons=", numerics::NeuronProductType(), " blas=", library,
      " torch=", TORCH_VERSION, " tile=", shape.tile_rows, "x", shape.slice,
      "x", shape.query_rows, " forward=", kForwardVersion,
      matching);
}

}  // namespace moescope::model
