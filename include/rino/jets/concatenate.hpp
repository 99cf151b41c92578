#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/jets/jets.hpp>

namespace rino {

namespace detail {

/// The columns of all parts one behind the other, by name; `columns_of(part)` are the named columns of one.
/// @throws rino::Error if the parts do not have columns of the same names.
template <typename Scalar, typename ColumnsOf>
std::map<std::string, std::vector<Scalar>> concatenate_named(std::span<const Jets<Scalar>> parts, const char* what,
                                                             const ColumnsOf& columns_of) {
  std::map<std::string, std::vector<Scalar>> all;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    for (const auto& [name, values] : columns_of(parts[part])) {
      require(columns_of(parts[0]).contains(name), "part ", part, " has the ", what, " '", name,
              "', unlike part 0: give the same ones to all parts");
      all[name].insert(all[name].end(), values->begin(), values->end());
    }
    for (const auto& [name, values] : columns_of(parts[0])) {
      require(columns_of(parts[part]).contains(name), "part ", part, " lacks the ", what, " '", name,
              "' of part 0: give the same ones to all parts");
    }
  }
  return all;
}

/// The origins of all parts, files of one name as one file; null unless all parts have them.
template <typename Scalar>
std::shared_ptr<const JetOrigins> concatenate_origins(std::span<const Jets<Scalar>> parts) {
  JetOrigins all;
  std::vector<std::string> files;
  std::map<std::string, std::int32_t> numbers;
  for (const Jets<Scalar>& jets : parts) {
    if (!jets.origins()) {
      return nullptr;
    }
    std::vector<std::int32_t> number_of;
    for (const std::string& file : *jets.origins()->files) {
      const auto [place, added] = numbers.emplace(file, static_cast<std::int32_t>(files.size()));
      if (added) {
        files.push_back(file);
      }
      number_of.push_back(place->second);
    }
    for (const std::int32_t file : jets.origins()->file) {
      all.file.push_back(number_of[static_cast<std::size_t>(file)]);
    }
    all.entry.insert(all.entry.end(), jets.origins()->entry.begin(), jets.origins()->entry.end());
  }
  all.files = std::make_shared<const std::vector<std::string>>(std::move(files));
  return std::make_shared<const JetOrigins>(std::move(all));
}

}  // namespace detail

/// The jets of several batches one behind the other, copied. Origins stay where all parts have them.
///
/// @throws rino::Error if there is no part, or some parts have labels, extras or values that others have not.
template <std::floating_point Scalar>
Jets<Scalar> concatenate(std::span<const Jets<Scalar>> parts) {
  require(!parts.empty(), "there is nothing to concatenate: give one or more Jets");
  std::array<std::vector<Scalar>, 4> columns;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int64_t> labels;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const Jets<Scalar>& jets = parts[part];
    require(!jets.labels() == !parts[0].labels(), "part ", part, jets.labels() ? " has labels" : " has no labels",
            ", unlike part 0: give labels to all parts or to none");
    for (std::size_t c = 0; c < 4; ++c) {
      const auto& column = jets.columns()[c];
      for (std::int64_t i = 0; i < jets.constituents(); ++i) {
        columns[c].push_back(column.data[i * column.stride]);
      }
    }
    const std::int64_t first = offsets.back();
    for (std::int64_t j = 0; j < jets.size(); ++j) {
      offsets.push_back(first + jets.end(j));
    }
    if (jets.labels()) {
      labels.insert(labels.end(), jets.labels()->begin(), jets.labels()->end());
    }
  }
  Jets<Scalar> all = Jets<Scalar>::from_columns_unchecked(std::move(columns), std::move(offsets));
  if (parts[0].labels()) {
    all = all.with_labels(std::move(labels));
  }
  const auto extras_of = [](const Jets<Scalar>& jets) -> const auto& { return jets.extras(); };
  for (auto& [name, values] : detail::concatenate_named(parts, "extra", extras_of)) {
    all = all.with_extra(name, std::move(values));
  }
  const auto values_of = [](const Jets<Scalar>& jets) -> const auto& { return jets.values(); };
  for (auto& [name, values] : detail::concatenate_named(parts, "value", values_of)) {
    all = all.with_value(name, std::move(values));
  }
  if (const auto origins = detail::concatenate_origins(parts)) {
    all = all.with_origins(*origins);
  }
  return all;
}

}  // namespace rino
