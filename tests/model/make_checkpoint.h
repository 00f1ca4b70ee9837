#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "server/model/families/family_internal.h"

namespace moescope::model {

/// Runs tests/testdata/make_checkpoint; returns its exit status.
inline int MakeCheckpoint(const std::string& arguments) {
  const std::string command = MOESCOPE_PYTHON
      " -B " MOESCOPE_SOURCE_DIR "/tests/testdata/make_checkpoint " +
      arguments + " >/dev/null 2>&1";
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// What the registered families are called.
inline std::vector<std::string> FamilyNames() {
  std::vector<std::string> names;
  for (const internal::Family& family : internal::Families()) {
    names.push_back(family.name);
  }
  return names;
}

}  // namespace moescope::model
