# Which test programs are worth running under a sanitizer.
#
# moescope_add_test(... ASAN) and (... TSAN) mark a program for the builds whose
# MOESCOPE_SANITIZE names `address` or `thread`. In such a build a program
# without that mark is neither built nor registered with ctest, so that
#
#   cmake --preset asan && cmake --build --preset asan --target sanitizer_tests
#   ctest --preset asan
#
# builds and runs exactly what the sanitizer is for, within the time that a
# two-core machine has. -DMOESCOPE_SANITIZE_ALL_TESTS=ON lifts the choice.
include_guard(GLOBAL)

option(MOESCOPE_SANITIZE_ALL_TESTS "Build every test in a sanitizer build" OFF)
if(MOESCOPE_SANITIZE)
  add_custom_target(sanitizer_tests)
endif()

# Sets `wanted` in the caller's scope: whether this build has a use for a test
# with the given marks.
function(moescope_sanitizer_wants marks wanted)
  set(${wanted} TRUE PARENT_SCOPE)
  if(NOT MOESCOPE_SANITIZE OR MOESCOPE_SANITIZE_ALL_TESTS)
    return()
  endif()
  if(MOESCOPE_SANITIZE MATCHES "address" AND "ASAN" IN_LIST marks)
    return()
  endif()
  if(MOESCOPE_SANITIZE MATCHES "thread" AND "TSAN" IN_LIST marks)
    return()
  endif()
  set(${wanted} FALSE PARENT_SCOPE)
endfunction()

# Adds `program` to what the target sanitizer_tests builds.
function(moescope_sanitizer_test program)
  if(MOESCOPE_SANITIZE)
    add_dependencies(sanitizer_tests ${program})
    set_property(GLOBAL APPEND PROPERTY MOESCOPE_SANITIZED_PROGRAMS ${program})
  endif()
endfunction()
