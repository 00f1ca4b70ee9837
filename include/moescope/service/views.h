#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "moescope/base/run_context.h"
#include "moescope/spec/provenance.h"

namespace moescope {

/// A model as clients see it; what could not be read is empty or 0 and
/// `checkpoint_status` says why.
struct ModelView {
  std::string name;
  std::string state;  ///< "UNLOADED", "LOADING", "READY", "UNLOADING", "FAILED"
  /// Of the last load; before it what is known of damaged files.
  absl::Status load_error;
  absl::Status checkpoint_status;
  std::string family;
  std::string model_type;
  std::int64_t num_layers = 0;
  std::vector<std::int64_t> moe_layers;
  std::int64_t num_experts = 0;
  std::int64_t experts_per_token = 0;
  std::int64_t num_shared_experts = 0;
  std::int64_t width = 0;
  std::int64_t expert_width = 0;
  std::int64_t dense_width = 0;
  std::int64_t shared_width = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;
  std::string routing_rule;  ///< In words.
  std::string dtype;
  std::int64_t weight_bytes = 0;
  absl::Status forward_status;  ///< Why no tokens can be run through it.
  std::string tokenizer;  ///< In words; empty: none.
  absl::Status tokenizer_status;
  std::string identity;
  int num_weight_files = 0;
  /// See model::IdentityStore::FiledTime.
  std::optional<absl::Time> hash_time;
  std::string device;  ///< Where it is or would be loaded.
  std::int64_t resident_bytes = 0;  ///< Of weights; 0 unless in memory.
  int pins = 0;
  absl::Duration load_time;
  Progress load_progress;
};

/// What loading a model takes.
struct EstimateView {
  std::int64_t weight_bytes = 0;
  std::int64_t workspace_bytes = 0;
  std::int64_t available_bytes = 0;
  std::int64_t budget_bytes = 0;
  bool fits = false;
  std::vector<std::string> would_evict;
  std::vector<std::string> would_have_to_go;
};

struct TokenView {
  std::int32_t id = 0;
  std::string piece;  ///< Fit for a terminal.
  bool special = false;  ///< Such as BOS.
};
/// A text as the model's tokenizer sees it.
using TokenizeView = std::vector<TokenView>;

/// Where queued work stands in its lane.
struct QueuePlace {
  std::int64_t position = 0;  ///< Pieces of work that go before it.
  /// Until its end, by the estimates of what goes before and its own; nothing
  /// new is counted in.
  double eta_seconds = 0;
};
/// By execution.
using QueuePlaces = std::map<std::string, QueuePlace>;

/// A finished or running answer.
struct ResultView {
  std::string name;  ///< The key: 64 hex digits.
  bool complete = false;
  std::int64_t chunks = 0;
  std::int64_t size_bytes = 0;
  std::string digest;  ///< Of what is there so far.
  spec::Provenance provenance;  ///< Empty while not complete.
};

/// What a computation is expected to take.
struct CostView {
  std::int64_t tokens = 0;  ///< Through the model; 0: it reads weights only.
  std::int64_t bytes_read = 0;
  double flops = 0;
  std::int64_t memory_bytes = 0;
  /// Beside that on the device, of an analysis of weights that works there.
  std::int64_t device_bytes = 0;
  double seconds = 0;
};

struct DeviceView {
  std::string name;
  std::string description;  ///< Of the CPU only.
  std::int64_t total_bytes = 0;
  std::int64_t free_bytes = 0;
  std::int64_t budget_bytes = 0;
  std::int64_t reserved_bytes = 0;
};

/// What this server is and allows.
struct ServerView {
  std::map<std::string, std::string> versions;
  std::vector<DeviceView> devices;
  std::map<std::string, std::int64_t> limits;
  std::vector<std::string> features;
  std::string numerics_class;
  std::string instruction_set;
  std::string blas_library;
  std::string blas_core;
  std::string fitting_blas_core;
  bool blas_core_fits = false;
  double gemm_gflops = 0;  ///< fp32 1024³, one thread, measured at start.
  int threads = 0;
  absl::Time start_time;
  std::int64_t num_models = 0;
};

/// The result cache, since the start and now. Hits, misses and joins are of
/// requests for an analysis; looking at a result is none.
struct CacheView {
  std::int64_t memory_hits = 0;
  std::int64_t disk_hits = 0;
  std::int64_t misses = 0;
  std::int64_t joins = 0;
  /// What the answers of the hits once took.
  absl::Duration saved;
  std::int64_t corrupt = 0;
  std::int64_t memory_evictions = 0;
  std::int64_t disk_evictions = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t memory_entries = 0;
  std::int64_t memory_limit_bytes = 0;
  std::int64_t disk_bytes = 0;
  std::int64_t disk_entries = 0;
  std::int64_t disk_limit_bytes = 0;
};

}  // namespace moescope
