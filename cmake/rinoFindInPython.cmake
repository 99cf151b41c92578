# Where a Python package lies, for packages that bring C++ headers and libraries in their wheels.
#
# rino_find_in_python(<package> <result>): the package's folder, or empty. pip builds in isolation hide the target
# environment behind PYTHONPATH and the user's own packages behind PYTHONNOUSERSITE, so the interpreter is asked without
# them; then the active virtual environment.
function(rino_find_in_python package result)
  set(script "import importlib.util as u; s = u.find_spec('${package}'); print(list(s.submodule_search_locations)[0] if s else '', end='')")
  set(folder "")
  foreach(python IN ITEMS "${Python_EXECUTABLE}" "$ENV{VIRTUAL_ENV}/bin/python" "python3")
    foreach(clean IN ITEMS "--unset=PYTHONPATH;--unset=PYTHONNOUSERSITE" "RINO=1")
      if(NOT folder AND python)
        execute_process(
          COMMAND ${CMAKE_COMMAND} -E env ${clean} "${python}" -c "${script}"
          OUTPUT_VARIABLE folder
          ERROR_QUIET)
      endif()
    endforeach()
  endforeach()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()
