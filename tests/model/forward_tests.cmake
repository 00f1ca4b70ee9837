# Tests of the computing half; included by CMakeLists.txt.
if(TARGET moescope_model)
  moescope_add_test(NAME model_forward_test LABEL torch
    SOURCES attention_test.cc rope_test.cc router_rules_test.cc
            forward_fixture_test.cc masked_groups_test.cc
            forward_property_test.cc
            forward_error_test.cc fused_checkpoint_test.cc
            mixed_formats_test.cc workspace_test.cc
            forward_testing.cc
            forward_main.cc
    LIBS moescope::model moescope_testing)
  moescope_add_test(NAME model_weights_test LABEL torch
    SOURCES product_choice_test.cc resident_matrix_test.cc
            stacked_experts_test.cc
    LIBS moescope::model moescope_testing)
  if(MOESCOPE_PYTHON AND NOT MOESCOPE_SANITIZE)
    moescope_add_test(NAME made_forward_test LABEL torch
      SOURCES made_forward_test.cc forward_testing.cc forward_main.cc
      LIBS moescope::model moescope_testing)
    target_compile_definitions(made_forward_test PRIVATE
      MOESCOPE_PYTHON="${MOESCOPE_PYTHON}")
  endif()
endif()

# Once more where the promises are weaker, whatever the processor at hand fits.
if(TARGET model_forward_test AND EXISTS /proc/cpuinfo)
  file(STRINGS /proc/cpuinfo has_avx2 REGEX " avx2( |$)" LIMIT_COUNT 1)
  if(has_avx2)
    add_test(NAME model_forward_avx2_test
             COMMAND model_forward_test --gtest_filter=*ForwardPropertyTest*:ForwardTest.*)
    set_tests_properties(model_forward_avx2_test PROPERTIES LABELS torch TIMEOUT 120
                         ENVIRONMENT MOESCOPE_TEST_BLAS_CORE=Haswell)
  endif()
endif()
