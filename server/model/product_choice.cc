#include "moescope/model/product_choice.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <cstdint>
#include <optional>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

#include "moescope/base/blas_core.h"
#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/log.h"
#include "moescope/base/machine.h"
#include "moescope/base/status_macros.h"
#include "moescope/model/compute_info.h"
#include "moescope/numerics/instruction_set.h"

namespace moescope::model {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 16;

std::string PathIn(const std::string& data_dir) {
  return data_dir + "/processor.json";
}

absl::Status AboutFile(const absl::Status& status) {
  return FieldError(status.code(), "data_dir",
                    absl::StrCat("processor.json: ", status.message()),
                    "FOLDER_NOT_USABLE");
}

ProductChoice DescribeHere() {
  const LoadedBlas blas = DescribeBlas();
  ProductChoice here;
  here.processor = absl::StrCat(DescribeMachine().processor, ", ",
                                numerics::KernelInstructionSet());
  here.libraries =
      absl::StrCat(blas.library, "/", blas.core, ", torch ", TORCH_VERSION);
  return here;
}

// nullopt where `text` is no such file.
std::optional<ProductChoice> Parse(const std::string& text) {
  const json file = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto word = [&file](const char* key) {
    return file.is_object() && file.contains(key) && file[key].is_string();
  };
  const auto rate = [&file](const char* key) {
    return file.is_object() && file.contains(key) && file[key].is_number() &&
           file[key].get<double>() >= 0;
  };
  if (!word("processor") || !word("libraries") || !rate("fp32_gflops") ||
      !rate("bf16_gflops")) {
    return std::nullopt;
  }
  return ProductChoice{
      file["processor"].get<std::string>(),
      file["libraries"].get<std::string>(),
      {file["fp32_gflops"].get<double>(), file["bf16_gflops"].get<double>()}};
}

absl::Status Keep(const ProductChoice& choice, const std::string& path) {
  // Names come from the system: bytes that are no UTF-8 are replaced.
  const std::string text =
      json{{"processor", choice.processor},
           {"libraries", choice.libraries},
           {"fp32_gflops", choice.rates.fp32_gflops},
           {"bf16_gflops", choice.rates.bf16_gflops},
           {"neuron_products", choice.bf16() ? "bf16" : "fp32"}}
          .dump(2, ' ', false, json::error_handler_t::replace);
  return WriteFileAtomically(path, text + "\n");
}

}  // namespace

absl::StatusOr<ProductChoice> LoadOrMeasureProductChoice(
    const std::string& data_dir,
    const std::function<absl::StatusOr<numerics::ProductRates>()>& measure) {
  const std::string path = PathIn(data_dir);
  ProductChoice here = DescribeHere();
  const auto text = ReadFile(path, kMaxBytes);
  if (text.ok()) {
    const std::optional<ProductChoice> kept = Parse(*text);
    if (kept.has_value() && kept->processor == here.processor &&
        kept->libraries == here.libraries) {
      return *kept;
    }
    if (!kept.has_value()) {
      Log(LogLevel::kWarning, "processor_file_unreadable", {{"path", path}});
    }
  } else if (!absl::IsNotFound(text.status())) {
    return AboutFile(text.status());
  }
  MOESCOPE_ASSIGN_OR_RETURN(here.rates, measure());
  const absl::Status written = Keep(here, path);
  if (!written.ok()) {
    return AboutFile(written);
  }
  return here;
}

absl::Status ApplyProductChoice(const std::string& data_dir) {
  MOESCOPE_ASSIGN_OR_RETURN(
      const ProductChoice choice,
      LoadOrMeasureProductChoice(data_dir, [] {
        // As all products run: on one thread each.
        at::set_num_threads(1);
        (void)SetLoadedBlasThreads(1);
        return numerics::MeasureProductRates();
      }));
  numerics::ChooseBFloat16Products(choice.bf16());
  Log(LogLevel::kInfo, "neuron_products",
      {{"type", choice.bf16() ? "bf16" : "fp32"},
       {"fp32_gflops", choice.rates.fp32_gflops},
       {"bf16_gflops", choice.rates.bf16_gflops}});
  return absl::OkStatus();
}

}  // namespace moescope::model
