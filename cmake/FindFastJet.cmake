# FastJet from the Python wheel `fastjet`, from a prefix (CMAKE_PREFIX_PATH, Debian's libfastjet-dev), or from where
# fastjet-config says. Defines FastJet::FastJet, FastJet_VERSION, FastJet_LIBRARY_DIR. The wheel's own CMake files
# cannot be used: they ask for CGAL, and its fastjet-config points to the machine it was built on.
include(${CMAKE_CURRENT_LIST_DIR}/rinoFindInPython.cmake)

rino_find_in_python(fastjet _fastjet_wheel)
find_program(FastJet_CONFIG fastjet-config)
mark_as_advanced(FastJet_CONFIG)
set(_fastjet_config_prefix "")
if(FastJet_CONFIG)
  execute_process(COMMAND ${FastJet_CONFIG} --prefix OUTPUT_VARIABLE _fastjet_config_prefix
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()

find_path(FastJet_INCLUDE_DIR fastjet/ClusterSequence.hh HINTS ${_fastjet_wheel} ${_fastjet_config_prefix}
          PATH_SUFFIXES include)
find_library(FastJet_LIBRARY fastjet HINTS ${_fastjet_wheel} ${_fastjet_config_prefix} PATH_SUFFIXES lib64 lib)
mark_as_advanced(FastJet_INCLUDE_DIR FastJet_LIBRARY)

if(FastJet_INCLUDE_DIR AND EXISTS "${FastJet_INCLUDE_DIR}/fastjet/config_auto.h")
  file(STRINGS "${FastJet_INCLUDE_DIR}/fastjet/config_auto.h" _fastjet_version REGEX "FASTJET_PACKAGE_VERSION|FASTJET_VERSION ")
  string(REGEX MATCH "\"([0-9.]+)[^\"]*\"" _fastjet_match "${_fastjet_version}")
  set(FastJet_VERSION "${CMAKE_MATCH_1}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  FastJet
  REQUIRED_VARS FastJet_LIBRARY FastJet_INCLUDE_DIR
  VERSION_VAR FastJet_VERSION
  REASON_FAILURE_MESSAGE "Install it with 'pip install fastjet' or 'apt-get install libfastjet-dev', or set \
CMAKE_PREFIX_PATH. Or do without it: find_package(rino COMPONENTS core), in rino's own build -DRINO_FASTJET=OFF.")

if(FastJet_FOUND AND NOT TARGET FastJet::FastJet)
  get_filename_component(FastJet_LIBRARY_DIR "${FastJet_LIBRARY}" DIRECTORY)
  add_library(FastJet::FastJet UNKNOWN IMPORTED)
  set_target_properties(
    FastJet::FastJet PROPERTIES IMPORTED_LOCATION "${FastJet_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES
                                                                      "${FastJet_INCLUDE_DIR}")
endif()
