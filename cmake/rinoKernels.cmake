# rino::kernels: the kernels of encoder and clusterer, compiled once for all files of a program. Without it every file that
# includes them does it, for a minute each.
if(NOT TARGET rino::kernels)
  get_target_property(rino_include rino::rino INTERFACE_INCLUDE_DIRECTORIES)
  string(REGEX REPLACE "^\\$<BUILD_INTERFACE:([^>]*)>.*" "\\1" rino_include "${rino_include}")
  add_library(rino_kernels STATIC EXCLUDE_FROM_ALL ${rino_include}/rino/kernels.cpp)
  add_library(rino::kernels ALIAS rino_kernels)
  set_target_properties(rino_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
  target_link_libraries(rino_kernels PUBLIC rino::rino)
  target_compile_definitions(rino_kernels INTERFACE RINO_KERNELS_ELSEWHERE)
endif()
