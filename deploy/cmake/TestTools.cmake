# Programs that only tests use, found once and never required:
#
#   MOESCOPE_PYTHON               Debian's python3, the one that sees Debian's
#                                 grpcio and numpy, before any other on PATH
#   MOESCOPE_PROMETHEUS           deploy/setup.sh unpacks one
#   MOESCOPE_HELM, MOESCOPE_KUBERNETES_VALIDATE, MOESCOPE_BUF
#                                 .ci/run provides these
#   MOESCOPE_TOKENIZERS_PYTHON    a python3 that has PyPI's tokenizers and
#                                 sentencepiece; .ci/run provides one
#
# moescope_test_left_out(TOOL WHAT) tells at configure time which tests are not
# registered for want of a tool, and leaves the line in
# <build>/tests_left_out.txt for deploy/test.sh to repeat.
include_guard(GLOBAL)

# The same folder as in deploy/setup.sh.
if(DEFINED ENV{MOESCOPE_TOOLS})
  set(_tools "$ENV{MOESCOPE_TOOLS}")
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(_tools "$ENV{XDG_CACHE_HOME}/moescope")
else()
  set(_tools "$ENV{HOME}/.cache/moescope")
endif()
find_program(MOESCOPE_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(MOESCOPE_PYTHON python3)
find_program(MOESCOPE_PROMETHEUS prometheus HINTS ${_tools}/prometheus/usr/bin)
find_program(MOESCOPE_HELM helm HINTS ${_tools}/bin)
find_program(MOESCOPE_KUBERNETES_VALIDATE kubernetes-validate HINTS ${_tools}/bin)
find_program(MOESCOPE_BUF buf HINTS ${_tools}/bin)
if(NOT MOESCOPE_TOKENIZERS_PYTHON)
  foreach(_python IN ITEMS ${_tools}/tokenizers/bin/python3 ${MOESCOPE_PYTHON})
    execute_process(COMMAND ${_python} -c "import tokenizers, sentencepiece"
                    RESULT_VARIABLE _result OUTPUT_QUIET ERROR_QUIET)
    if(_result EQUAL 0)
      set(MOESCOPE_TOKENIZERS_PYTHON ${_python} CACHE FILEPATH
          "python3 with the packages tokenizers and sentencepiece")
      break()
    endif()
  endforeach()
endif()

file(WRITE ${CMAKE_BINARY_DIR}/tests_left_out.txt "")
function(moescope_test_left_out tool what)
  message(STATUS "${what} need ${tool}: not registered")
  file(APPEND ${CMAKE_BINARY_DIR}/tests_left_out.txt "${what} need ${tool}\n")
endfunction()
