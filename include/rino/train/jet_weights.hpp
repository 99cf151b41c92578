#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/core/names.hpp>
#include <rino/jets/jets.hpp>

namespace rino {

/// The jets' weights, [n] float64: one of the columns that have one number per jet.
/// @throws rino::Error if they have no such column, or a weight is negative or not finite: it names the jet, and where
///         it was read from.
/// @param name  of the number of a recipe that names the column, for errors.
inline at::Tensor jet_weights(const Jets<double>& jets, const std::string& column,
                              const char* name = "training.weight") {
  const auto found = jets.values().find(column);
  if (found == jets.values().end()) {
    fail(name, " is '", column, "', but ",
         jets.extras().contains(column) ? "that is a column of the constituents, and the jets have of their own: "
                                        : "the jets have no such column with one number per jet, only: ",
         keys_of(jets.values()), ": read it with columns=, or set it with Jets.with_value");
  }
  const std::vector<double>& weights = *found->second;
  for (std::size_t j = 0; j < weights.size(); ++j) {
    if (std::isfinite(weights[j]) && weights[j] >= 0) {
      continue;
    }
    std::string place = "jet " + std::to_string(j);
    if (jets.origins()) {
      const JetOrigins& origins = *jets.origins();
      place = (*origins.files)[static_cast<std::size_t>(origins.file[j])] + ": jet " + std::to_string(origins.entry[j]);
    }
    fail(name, ": '", column, "' of ", place, " is ", weights[j],
         "; weights are finite numbers of 0 or more: leave the jet out, repair the column or name another");
  }
  return at::tensor(weights, at::kDouble);
}

/// The same jets, whose weights are sound where a column of them is named: found before a run, not at its end.
inline Jets<double> weighed(Jets<double> jets, const std::string& column) {
  if (!column.empty()) {
    jet_weights(jets, column);
  }
  return jets;
}

}  // namespace rino
