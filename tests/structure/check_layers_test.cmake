# Holds check_layers.cmake against a tree in which every line breaks a rule.
#
#   cmake -DSOURCE=<source dir> -DSCRATCH=<folder> -P check_layers_test.cmake
cmake_minimum_required(VERSION 3.24)

# Writes `lines` as the file and checks that the rules name each of them.
function(expect_broken file)
  file(REMOVE_RECURSE ${SCRATCH})
  file(WRITE ${SCRATCH}/include/moescope/numerics/gram.h
       "#include <ATen/core/Tensor.h>\n")
  list(JOIN ARGN "\n" text)
  file(WRITE ${SCRATCH}/${file} "${text}\n")
  execute_process(
    COMMAND ${CMAKE_COMMAND} -DROOT=${SCRATCH}
            -P ${SOURCE}/deploy/cmake/check_layers.cmake
    RESULT_VARIABLE status ERROR_VARIABLE said)
  # CMake breaks long lines of a message.
  string(REGEX REPLACE "[ \n]+" " " said "${said}")
  foreach(line IN LISTS ARGN)
    string(FIND "${said}" "${line}" at)
    if(at LESS 0)
      message(SEND_ERROR "${file}: allowed: ${line}")
    endif()
  endforeach()
  if(status EQUAL 0)
    message(SEND_ERROR "${file}: allowed")
  endif()
endfunction()

function(expect_allowed file)
  file(REMOVE_RECURSE ${SCRATCH})
  list(JOIN ARGN "\n" text)
  file(WRITE ${SCRATCH}/${file} "${text}\n")
  execute_process(
    COMMAND ${CMAKE_COMMAND} -DROOT=${SCRATCH}
            -P ${SOURCE}/deploy/cmake/check_layers.cmake
    RESULT_VARIABLE status ERROR_VARIABLE said)
  if(NOT status EQUAL 0)
    message(SEND_ERROR "${file}: refused\n${said}")
  endif()
endfunction()

expect_broken(server/base/sha256.cc
  "#include \"google/rpc/status.pb.h\""
  "#include <google/protobuf/message.h>"
  "#include \"moescope/v1/job.pb.h\""
  "#include <httplib.h>"
  "#include <CLI/CLI.hpp>"
  "#include <moescope/jobs/job.h>"
  "#include \"../jobs/sqlite_internal.h\""
  "#include \"client/lib/client.h\""
  "#include \"server/jobs/sqlite_internal.h\""
  "#include <torch/torch.h>"
  "#include <grpcpp/grpcpp.h>"
  "#include <prometheus/registry.h>"
  "#include <sqlite3.h>"
  "#include <pqxx/pqxx>"
  "#include <hwy/highway.h>"
  "#include \"moescope/unheard/of.h\"")
expect_broken(include/moescope/numerics/statistics.h "#include <torch/torch.h>")
expect_broken(include/moescope/analysis/catalogue.h
  "#include <ATen/core/Tensor.h>")
# Its include is allowed, but not what that includes.
expect_broken(include/moescope/analysis/weights.h
  "#include \"moescope/numerics/gram.h\"")
expect_allowed(server/codec/messages.cc
  "#include \"moescope/codec/messages.h\"" "#include <google/protobuf/message.h>"
  "#include \"moescope/v1/job.pb.h\"")
expect_allowed(server/app/metrics_endpoint.cc "#include <httplib.h>")
