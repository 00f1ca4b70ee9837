#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace moescope::client {

/// Rows of text under a header, columns as wide as their widest cell, two
/// spaces apart.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  /// Missing cells are empty.
  void Add(std::vector<std::string> row);
  /// Ends with a newline. No trailing spaces.
  std::string Text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// Columns that `text` takes on a terminal, taking every character for one
/// column wide.
std::size_t DisplayWidth(absl::string_view text);

/// `text` with line breaks, tabs and other control characters as \n, \t, \xNN,
/// so that it stays in its cell.
std::string Visible(absl::string_view text);

/// A token's text, in which the server has escaped backslashes already, as
/// Visible between quotation marks; those within as \".
std::string QuotedToken(absl::string_view text);

}  // namespace moescope::client
