# Tests of the computing half; included by CMakeLists.txt.
if(TARGET moescope_model)
  moescope_add_test(NAME model_forward_test LABEL torch
    SOURCES router_rules_test.cc forward_fixture_test.cc
            forward_property_test.cc
            forward_error_test.cc forward_testing.cc forward_main.cc
    LIBS moescope::model moescope_testing)
endif()
