# The one place that states which layer may see which. Read by the build (link
# edges, below) and by the test `layers` (include edges, check_layers.cmake).
#
# Layers are listed from low to high; a row may name only earlier layers.
set(MOESCOPE_LAYERS base spec telemetry numerics model analysis registry results
                    jobs proto codec service rpc app client)
set(MOESCOPE_SEES_base      "")
set(MOESCOPE_SEES_spec      base)
set(MOESCOPE_SEES_telemetry base)
set(MOESCOPE_SEES_numerics  base)
set(MOESCOPE_SEES_model     base numerics)
set(MOESCOPE_SEES_analysis  base spec numerics model)
set(MOESCOPE_SEES_registry  base telemetry model)
set(MOESCOPE_SEES_results   base telemetry)
set(MOESCOPE_SEES_jobs      base telemetry)
set(MOESCOPE_SEES_proto     "")
set(MOESCOPE_SEES_codec     base spec proto)
set(MOESCOPE_SEES_service   base spec telemetry model analysis registry results
                            jobs codec)
set(MOESCOPE_SEES_rpc       base spec telemetry codec service proto)
set(MOESCOPE_SEES_app       base telemetry registry results jobs service rpc)
set(MOESCOPE_SEES_client    base spec codec proto)

# Which layers may include a third-party library's headers.
set(MOESCOPE_OWNERS_torch      numerics model analysis registry)
set(MOESCOPE_OWNERS_hwy        numerics)
set(MOESCOPE_OWNERS_grpcpp     rpc app client)
set(MOESCOPE_OWNERS_prometheus telemetry app)
set(MOESCOPE_OWNERS_sqlite     jobs)
set(MOESCOPE_OWNERS_pqxx       jobs)
set(MOESCOPE_OWNERS_protobuf   codec rpc client)
set(MOESCOPE_OWNERS_httplib    app)
set(MOESCOPE_OWNERS_cli11      app client)

foreach(layer IN LISTS MOESCOPE_LAYERS)
  list(FIND MOESCOPE_LAYERS ${layer} rank)
  foreach(seen IN LISTS MOESCOPE_SEES_${layer})
    list(FIND MOESCOPE_LAYERS ${seen} seen_rank)
    if(seen_rank LESS 0 OR seen_rank GREATER_EQUAL rank)
      message(FATAL_ERROR "layer table: '${layer}' names '${seen}'")
    endif()
  endforeach()
endforeach()

# Adds the static library moescope::<NAME>.
#
#   moescope_add_layer(NAME <layer> HEADERS <public headers> SOURCES <files>
#                      LAYERS <layers it links> LIBS <third-party targets>
#                      PRIVATE_LIBS <third-party targets no header shows>)
function(moescope_add_layer)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME" "HEADERS;SOURCES;LAYERS;LIBS;PRIVATE_LIBS")
  foreach(layer IN LISTS arg_LAYERS)
    if(NOT layer IN_LIST MOESCOPE_SEES_${arg_NAME})
      message(FATAL_ERROR "layer '${arg_NAME}' may not depend on '${layer}'")
    endif()
  endforeach()
  set(target moescope_${arg_NAME})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(moescope::${arg_NAME} ALIAS ${target})
  target_sources(${target} PUBLIC FILE_SET HEADERS
    BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${arg_HEADERS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_features(${target} PUBLIC cxx_std_17)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    VERIFY_INTERFACE_HEADER_SETS ON)
  list(TRANSFORM arg_LAYERS PREPEND moescope::)
  target_link_libraries(${target}
    PUBLIC ${arg_LAYERS} ${arg_LIBS}
    PRIVATE ${arg_PRIVATE_LIBS} $<BUILD_INTERFACE:moescope_warnings>)
endfunction()
