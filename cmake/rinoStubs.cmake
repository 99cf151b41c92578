# Writes _core.pyi, the types of what C++ gives Python, as the module itself says them: run by CMake once it is built.
#
# Type checkers and editors alone read them, so no build fails for want of them: it goes on, and one line says why. The
# interpreter in a build that pip isolates does not see the packages behind `sites`, torch's folder among them.
set(script "import sys; sys.path += sys.argv[2:]; import torch; from pybind11_stubgen import main; main(['--output-dir', sys.argv[1], '_core'])")
file(REMOVE "${folder}/_core.pyi")
if(beside)
  file(REMOVE "${beside}/_core.pyi") # that of an earlier module
endif()
execute_process(
  COMMAND "${python}" -c "${script}" "${folder}" "${folder}" ${sites}
  RESULT_VARIABLE failed
  OUTPUT_VARIABLE said
  ERROR_VARIABLE said
  TIMEOUT 300)
if(failed OR NOT EXISTS "${folder}/_core.pyi")
  string(STRIP "${said}" said)
  if(NOT said)
    set(said "${failed}")
  endif()
  string(REGEX REPLACE ".*\n" "" said "${said}")
  file(REMOVE "${folder}/_core.pyi")
  message(STATUS "rino: type checkers will know nothing of pyrino._core, as its stub could not be made (${said}): "
                 "'pip install pybind11-stubgen' and build anew")
elseif(beside)
  # An editable install has the module elsewhere, and type checkers look beside the package's own files.
  execute_process(COMMAND ${CMAKE_COMMAND} -E copy "${folder}/_core.pyi" "${beside}")
endif()
