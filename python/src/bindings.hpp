#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <pybind11/pybind11.h>

/// Names of files are bytes: those that are no UTF-8 are text in Python with `surrogateescape`, as `os.listdir` has
/// them.
inline pybind11::str text_of(std::string_view bytes) {
  PyObject* const text = PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogateescape");
  if (text == nullptr) {
    throw pybind11::error_already_set();
  }
  return pybind11::reinterpret_steal<pybind11::str>(text);
}

inline std::vector<std::string> bytes_of(const pybind11::sequence& names) {
  std::vector<std::string> found;
  for (const pybind11::handle name : names) {
    found.push_back(name.attr("encode")("utf-8", "surrogateescape").cast<std::string>());
  }
  return found;
}

// One function per folder of include/rino, or part of one; module.cpp calls them in the order in which the types depend
// on another.
void bind_jets(pybind11::module_& module);
void bind_pool(pybind11::module_& module);
void bind_views(pybind11::module_& module);
void bind_clustering(pybind11::module_& module);
void bind_transforms(pybind11::module_& module);
void bind_nn(pybind11::module_& module);
void bind_losses(pybind11::module_& module);
void bind_method(pybind11::module_& module);
void bind_train(pybind11::module_& module);
