# LibTorch as the target rino::torch; sets rino_torch_dir, the folder of its include and lib, and rino_torch_version.
#
# Asked in this order:
#   1. a target `torch` that the including project has made;
#   2. what somebody named by hand: Torch_DIR, Torch_ROOT, CMAKE_PREFIX_PATH (not for the Python module, which must be
#      built with the torch that its interpreter will load);
#   3. the torch of the Python that CMake uses;
#   4. find_package(Torch), wherever it looks.
# A torch that lies in a Python environment is taken as it lies there, whoever named it: its TorchConfig.cmake asks for a
# complete CUDA toolkit where torch is a CUDA build, and nothing here needs one. Our target has a name of its own, so that
# the including project may still call find_package(Torch).
include(${CMAKE_CURRENT_LIST_DIR}/rinoFindInPython.cmake)

option(RINO_LINK_TORCH_CUDA
       "Link libtorch_cuda, for which no symbol asks: C++ programs compute on CUDA devices only with it" OFF)

# The folder of the LibTorch that was named by hand, or empty.
function(rino_named_torch result)
  find_path(rino_torch_config TorchConfig.cmake NO_CACHE NO_DEFAULT_PATH
            PATHS ${Torch_DIR} ${Torch_ROOT} ENV Torch_ROOT ${CMAKE_PREFIX_PATH} ENV CMAKE_PREFIX_PATH
            PATH_SUFFIXES . share/cmake/Torch Torch torch/share/cmake/Torch)
  set(folder "")
  if(rino_torch_config)
    get_filename_component(folder "${rino_torch_config}/../../.." ABSOLUTE)
  endif()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# rino::torch from the package `folder` of a Python environment; the version, or empty if it is none with headers.
function(rino_torch_from_python folder result)
  set(${result} "" PARENT_SCOPE)
  set(includes ${folder}/include ${folder}/include/torch/csrc/api/include)
  find_library(rino_torch_cpu torch_cpu NO_CACHE NO_DEFAULT_PATH PATHS ${folder}/lib)
  find_library(rino_c10 c10 NO_CACHE NO_DEFAULT_PATH PATHS ${folder}/lib)
  if(NOT rino_torch_cpu OR NOT rino_c10 OR NOT EXISTS ${folder}/version.py
     OR NOT EXISTS ${folder}/include/torch/csrc/api/include/torch/torch.h)
    return()
  endif()
  file(STRINGS ${folder}/version.py version REGEX "^__version__")
  string(REGEX REPLACE "^[^'\"]*['\"]([^'\"]*)['\"].*" "\\1" version "${version}")
  # Of two names for std::string the library was compiled with one, and its functions carry it in theirs.
  file(STRINGS ${rino_c10} cxx11 REGEX "^_ZNK?3c10.*St7__cxx1112basic_string" LIMIT_COUNT 1)
  set(abi 0)
  if(cxx11)
    set(abi 1)
  endif()
  add_library(rino::torch INTERFACE IMPORTED)
  set_target_properties(
    rino::torch
    PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${includes}"
               INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${includes}"
               INTERFACE_COMPILE_DEFINITIONS "_GLIBCXX_USE_CXX11_ABI=${abi}"
               INTERFACE_COMPILE_FEATURES cxx_std_20
               INTERFACE_LINK_LIBRARIES "${rino_torch_cpu};${rino_c10}")
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

if(NOT TARGET rino::torch)
  set(rino_torch_dir "")
  set(rino_torch_version "")
  if(NOT TARGET torch)
    if(NOT RINO_BUILD_PYTHON)
      rino_named_torch(rino_torch_dir)
    endif()
    if(NOT rino_torch_dir)
      rino_find_in_python(torch rino_torch_dir)
    endif()
    if(rino_torch_dir)
      rino_torch_from_python("${rino_torch_dir}" rino_torch_version)
    endif()
    if(NOT TARGET rino::torch)
      set(named "${Torch_DIR}")
      find_package(Torch QUIET HINTS ${rino_torch_dir})
      if(NOT named)
        unset(Torch_DIR CACHE) # or the next run would take it for one that was named by hand
      endif()
      if(NOT Torch_FOUND)
        message(FATAL_ERROR
                "LibTorch was not found. Install it with 'pip install torch' into the Python that CMake uses "
                "(${Python_EXECUTABLE}), or set CMAKE_PREFIX_PATH to a LibTorch folder. A torch that Python finds by "
                "PYTHONPATH is hidden in pip's isolated builds: add --no-build-isolation.")
      endif()
    endif()
  endif()
  if(NOT TARGET rino::torch)
    add_library(rino::torch INTERFACE IMPORTED)
    set_target_properties(rino::torch PROPERTIES INTERFACE_LINK_LIBRARIES torch)
    set(rino_torch_dir "${TORCH_INSTALL_PREFIX}")
    set(rino_torch_version "${Torch_VERSION}")
  endif()
  if(rino_torch_version AND rino_torch_version VERSION_LESS 2.7)
    message(FATAL_ERROR "torch ${rino_torch_version} in ${rino_torch_dir} is too old: rino needs 2.7 or newer. "
                        "Install one with 'pip install \"torch>=2.7\"', or set CMAKE_PREFIX_PATH to a newer LibTorch.")
  endif()
  if(RINO_LINK_TORCH_CUDA)
    find_library(rino_torch_cuda torch_cuda NO_CACHE NO_DEFAULT_PATH PATHS ${rino_torch_dir}/lib)
    if(NOT rino_torch_cuda)
      message(FATAL_ERROR "RINO_LINK_TORCH_CUDA is on, and torch ${rino_torch_version} in ${rino_torch_dir} has no "
                          "libtorch_cuda: install a CUDA build of torch, or switch the option off.")
    endif()
    set_property(TARGET rino::torch
                 PROPERTY INTERFACE_LINK_OPTIONS "LINKER:--push-state,--no-as-needed,${rino_torch_cuda},--pop-state")
  endif()
  message(STATUS "rino: torch ${rino_torch_version} in ${rino_torch_dir}")
endif()
