# Fails when a header exceeds 300 lines or a source 600.
#
#   cmake -DROOT=<source dir> -P check_sizes.cmake
cmake_minimum_required(VERSION 3.24)
set(broken "")
foreach(rule IN ITEMS "h 300" "cc 600")
  string(REPLACE " " ";" rule "${rule}")
  list(GET rule 0 extension)
  list(GET rule 1 limit)
  file(GLOB_RECURSE files RELATIVE ${ROOT}
    ${ROOT}/include/*.${extension} ${ROOT}/server/*.${extension}
    ${ROOT}/client/*.${extension} ${ROOT}/tests/*.${extension})
  foreach(file IN LISTS files)
    file(READ ${ROOT}/${file} text)
    string(REGEX REPLACE "[^\n]" "" text "${text}")
    string(LENGTH "${text}" count)
    if(count GREATER limit)
      string(APPEND broken "${file}: ${count} lines, limit ${limit}\n")
    endif()
  endforeach()
endforeach()
if(broken)
  message(FATAL_ERROR "too long:\n${broken}")
endif()
