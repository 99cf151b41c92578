#pragma once

#include <pybind11/pybind11.h>

// One function per folder of include/rino, or part of one; module.cpp calls them in the order in which the types depend
// on another.
void bind_jets(pybind11::module_& module);
void bind_pool(pybind11::module_& module);
void bind_views(pybind11::module_& module);
void bind_clustering(pybind11::module_& module);
void bind_transforms(pybind11::module_& module);
void bind_nn(pybind11::module_& module);
void bind_losses(pybind11::module_& module);
void bind_train(pybind11::module_& module);
