#include <c10/core/Device.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "server/model/forward_pass_internal.h"
#include "server/model/torch_tensor_internal.h"

#include "moescope/base/blas_core.h"
#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/model/forward.h"
#include "moescope/model/model.h"

namespace moescope::model {
namespace {

int NumGpus() {
  if (!c10::impl::hasDeviceGuardImpl(c10::kCUDA)) {
    return 0;
  }
  // No driver counts as no device; it never throws.
  return c10::impl::getDeviceGuardImpl(c10::kCUDA)->deviceCount();
}

// `device` was resolved before.
c10::Device ToDevice(const std::string& device) { return c10::Device(device); }

class ResidentModel final : public Model {
 public:
  ResidentModel(std::shared_ptr<const Checkpoint> checkpoint,
                std::string device, internal::ResidentWeights weights,
                const internal::RouterRule* rule)
      : checkpoint_(std::move(checkpoint)),
        device_(std::move(device)),
        weights_(std::move(weights)),
        rule_(rule) {}

  const Checkpoint& checkpoint() const override { return *checkpoint_; }
  const std::string& device() const override { return device_; }
  std::int64_t weight_bytes() const override { return weights_.bytes; }

  absl::Status Forward(const TokenBatch& batch, const ForwardRequest& request,
                       ForwardObserver& observer, ThreadPool& pool,
                       const RunContext& context) const override {
    const ModelConfig& config = checkpoint_->config();
    MOESCOPE_RETURN_IF_ERROR(internal::ValidatePass(config, batch, request));
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const c10::Device device = ToDevice(device_);
    return internal::RunTorch(device, [&] {
      internal::BufferPool buffers(device);
      return internal::RunPass(
          {config, weights_, rule_}, batch, request, observer,
          {device, internal::TileShapeFor(device), pool, context, buffers});
    });
  }

 private:
  const std::shared_ptr<const Checkpoint> checkpoint_;
  const std::string device_;
  const internal::ResidentWeights weights_;
  const internal::RouterRule* const rule_;
};

// OpenBLAS has threads of its own for which neither torch's nor OpenMP's
// setting counts. Set once: no product of ours runs before the first model.
void UseOneBlasThread() {
  static std::once_flag once;
  std::call_once(once, [] { (void)SetLoadedBlasThreads(1); });
}

}  // namespace

absl::StatusOr<std::string> ResolveDevice(const std::string& device) {
  const int gpus = NumGpus();
  if (device == "auto") {
    return std::string(gpus > 0 ? "cuda:0" : "cpu");
  }
  if (device == "cpu") {
    return device;
  }
  int index = -1;
  absl::string_view rest = device;
  if (device == "cuda") {
    index = 0;
  } else if (!absl::ConsumePrefix(&rest, "cuda:") ||
             !absl::SimpleAtoi(rest, &index)) {
    index = -1;
  }
  if (index < 0 || index >= gpus) {
    std::string known = "auto, cpu";
    for (int gpu = 0; gpu < gpus; ++gpu) {
      absl::StrAppend(&known, ", cuda:", gpu);
    }
    return InvalidField(
        "device",
        absl::StrCat("\"", device, "\" is not here; there is: ", known));
  }
  return absl::StrCat("cuda:", index);
}

absl::StatusOr<std::shared_ptr<const Model>> Model::Load(
    std::shared_ptr<const Checkpoint> checkpoint, const std::string& device,
    ThreadPool& /*pool*/, const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(checkpoint->forward_status());
  MOESCOPE_ASSIGN_OR_RETURN(std::string resolved, ResolveDevice(device));
  UseOneBlasThread();
  const ModelConfig& config = checkpoint->config();
  const internal::RouterRule* rule = nullptr;
  if (config.num_experts > 0) {
    rule = internal::FindRouterRule(config.router.rule);
    if (rule == nullptr) {
      return absl::UnimplementedError(absl::StrCat(
          "router rule \"", config.router.rule,
          "\"; known: ", absl::StrJoin(internal::RouterRuleNames(), ", ")));
    }
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      internal::ResidentWeights weights,
      internal::LoadResidentWeights(checkpoint, ToDevice(resolved), context));
  return std::make_shared<const ResidentModel>(
      std::move(checkpoint), std::move(resolved), std::move(weights), rule);
}

}  // namespace moescope::model
