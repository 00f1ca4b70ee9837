#pragma once

#include <string>

#include "client/export/result_document.h"

namespace moescope::client {

/// A safetensors file: 8 bytes of header length (little-endian), a JSON header
/// padded with spaces to a multiple of 8, then the bytes of all arrays exactly
/// as they came, in the order of the document. `__metadata__` holds the
/// document's metadata.
std::string SafetensorsBytes(const ResultDocument& document);

}  // namespace moescope::client
