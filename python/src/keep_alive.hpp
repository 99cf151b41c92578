#pragma once

#include <memory>
#include <utility>

#include <pybind11/pybind11.h>

/// Shared ownership of a Python object that may end on any thread, with or without the interpreter lock.
inline std::shared_ptr<const void> keep(pybind11::object object) {
  return {new pybind11::object(std::move(object)), [](const pybind11::object* held) {
            if (Py_IsInitialized() == 0) {
              return;  // the interpreter took its objects with it
            }
            const pybind11::gil_scoped_acquire lock;
            delete held;
          }};
}
