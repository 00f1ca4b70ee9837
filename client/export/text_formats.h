#pragma once

#include <string>

#include "client/export/result_document.h"

namespace moescope::client {

// Numbers have as many digits as their type needs to be read back exactly.

/// One JSON object: the metadata as top-level keys, and "arrays", an object of
/// {"dtype", "shape", "values"} by name, values nested row by row, a scalar's a
/// bare number. A non-finite value is null; "non_finite" then counts them.
std::string JsonText(const ResultDocument& document);

/// One JSON object per line: first {"metadata": {...}}, then one per array,
/// {"name", "dtype", "shape", "values"} as in JsonText.
std::string JsonLinesText(const ResultDocument& document);

/// One line per value: name, then the indices (as many columns i0, i1, ... as
/// the array of highest rank needs, empty where there are fewer), then the
/// value; nan, inf and -inf as such. Metadata has no place here.
std::string CsvText(const ResultDocument& document);

}  // namespace moescope::client
