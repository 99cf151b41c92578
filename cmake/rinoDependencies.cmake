# The libraries rino stands on, found where pip or Debian put them. Used by rino's own build and by rinoConfig.cmake, which
# say in rino_find_fastjet whether FastJet is one of them: REQUIRED, QUIET (one that may be missing) or empty.
include(${CMAKE_CURRENT_LIST_DIR}/rinoFindInPython.cmake)
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})

# LibTorch: tensors, autograd, kernels. The installed torch wheel is LibTorch, and the one Python will load.
include(${CMAKE_CURRENT_LIST_DIR}/rinoTorch.cmake)

# Eigen: fixed-size vectors and strided maps over memory that others own.
if(NOT TARGET Eigen3::Eigen)
  rino_find_in_python(cmeel _rino_cmeel) # the wheel cmeel-eigen unpacks beside it
  find_package(Eigen3 3.4 QUIET NO_MODULE HINTS ${_rino_cmeel}/../cmeel.prefix)
  if(NOT Eigen3_FOUND)
    message(FATAL_ERROR "Eigen 3.4 was not found. Install it with 'pip install cmeel-eigen' or "
                        "'apt-get install libeigen3-dev', or set CMAKE_PREFIX_PATH.")
  endif()
endif()

# FastJet: the field's jet clustering, our reference.
if(rino_find_fastjet)
  find_package(FastJet 3.4 ${rino_find_fastjet})
endif()

find_package(Threads REQUIRED)
