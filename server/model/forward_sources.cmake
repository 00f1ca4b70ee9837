# The computing half of the model layer; included by CMakeLists.txt.
set(moescope_forward_sources
  attention.cc forward_experts.cc forward_kernels.cc forward_model.cc
  forward_pass.cc memory_estimate.cc mixture_attention.cc numerics_class.cc
  resident_matrix.cc resident_weights.cc rope.cc route_rows.cc
  router_rules.cc self_attention.cc torch_tensor.cc)
