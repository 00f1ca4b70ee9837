#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/checkpoint.h"

namespace moescope::model {

struct TokenBatch;
struct ForwardRequest;
class ForwardObserver;

/// A place tensors can live: "cpu", "cuda:0".
/// Resolves "auto" to the first GPU where there is one, else "cpu".
/// Errors: INVALID_ARGUMENT (field "device", lists what there is).
absl::StatusOr<std::string> ResolveDevice(const std::string& device);

/// A pass, as far as its workspace depends on it. By default the most that a
/// block of the default size can ask for.
struct PassSize {
  std::int64_t tokens = 8192;  ///< T.
  /// Of the tokens that attend to each other; 0: all, as far as the model's
  /// positions go.
  std::int64_t longest_sequence = 0;
  bool all_experts = true;
  bool logits = true;
  int threads = 0;  ///< That compute; 0: one per core.
};

/// Bytes that a Model will hold on its device, and what one pass needs beside
/// it.
struct MemoryEstimate {
  /// Every tensor that a pass reads, in the checkpoint's number format. On the
  /// CPU these are pages of the mapped files, not memory of the process.
  std::int64_t weight_bytes = 0;
  /// 4 bytes · (T (n D + A + 2 E + 3 K) for the stream
  ///   + B K D for the outputs chosen in a block of B rows
  ///   + the largest of threads · (B (F + 3 D) + 3 S D + 128 S) for experts at
  ///     work, 3 S D + threads · 128 S for a dense layer and threads ·
  ///     (2 G Q L + S D) for attention scores of G heads
  ///   + B V for logits where they are asked for)
  /// with n = 3 to 6 and A = 2 H·head_dim + 2 kv·head_dim; with latent attention
  /// H (2 nope + rope + 2 value) + q_rank + 2 kv_rank + rope; and
  /// B = 1024 rows (no more than T), S = 512 widened neurons, Q = 64 queries and
  /// G = H / kv on the CPU (4096, 16384, 256 and H on a GPU), L the longest
  /// sequence. Within a
  /// factor of 1.5 of what passes take, and above it, but for the smallest.
  std::int64_t workspace_bytes = 0;
};

/// A checkpoint ready for forward passes: its weights lie on one device in the
/// checkpoint's own number format (on the CPU: mapped in place, not copied);
/// arithmetic is fp32. Products run on fixed tiles of 64 rows (GPU: 1024) with
/// one library thread each, so results do not depend on the number of threads.
/// Threads: immutable after Load; passes may run at the same time.
class Model {
 public:
  virtual ~Model() = default;

  /// What Load will need on `device`, and a pass of this size beside it, from
  /// the shard headers alone.
  static MemoryEstimate Estimate(const Checkpoint& checkpoint,
                                 const std::string& device,
                                 const PassSize& size = PassSize());

  /// Makes the weights resident on `device`; reports progress in bytes. The
  /// first call sets the loaded OpenBLAS to one thread, for good.
  /// Errors: the checkpoint's forward_status; RESOURCE_EXHAUSTED (out of device
  /// memory), CANCELLED,
  /// UNIMPLEMENTED (a number format that can't be widened).
  static absl::StatusOr<std::shared_ptr<const Model>> Load(
      std::shared_ptr<const Checkpoint> checkpoint, const std::string& device,
      ThreadPool& pool, const RunContext& context);

  virtual const Checkpoint& checkpoint() const = 0;
  virtual const std::string& device() const = 0;
  /// Bytes that the weights hold on the device, counted as they were loaded:
  /// matrices as on disk (on the CPU mapped pages), vectors in fp32.
  virtual std::int64_t weight_bytes() const = 0;

  /// Runs `batch` through the model, showing `observer` what `request` asks
  /// for. Looks at `context` at least every tile.
  /// Cost: one GEMM pass over the active weights per block of tokens.
  /// Errors: INVALID_ARGUMENT field "tokens" (empty batch, a length below 1,
  /// lengths that do not sum up) or "layers" (not rising); OUT_OF_RANGE field
  /// "tokens" (id, sequence longer than the model's positions) or "layers";
  /// CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED (device
  /// memory), INTERNAL (a library failed), whatever `observer` returns.
  virtual absl::Status Forward(const TokenBatch& batch,
                               const ForwardRequest& request,
                               ForwardObserver& observer, ThreadPool& pool,
                               const RunContext& context) const = 0;
};

/// Names what decides the last bits of a result besides the Spec: dtype rule,
/// device kind, instruction set, BLAS and its core, torch and kernel versions.
std::string NumericsClass(const std::string& device);

}  // namespace moescope::model
