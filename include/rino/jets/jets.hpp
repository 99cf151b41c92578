#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include <rino/core/error.hpp>
#include <rino/jets/four_momentum.hpp>

namespace rino {

/// Where n jets came from: what joins results with their source.
struct JetOrigins {
  std::shared_ptr<const std::vector<std::string>> files;  ///< names of the files
  std::vector<std::int32_t> file;                         ///< [n] number of the jet's file in `files`
  std::vector<std::int64_t> entry;                        ///< [n] number of the jet in its file, from 0
};

/// A batch of jets: their constituents' four-momenta, ragged, one array per component and `offsets`.
///
/// The constituents of jet j are rows offsets[j] .. offsets[j+1]-1. The components may lie anywhere in memory
/// with any stride: `Jets` does not copy what it is given, it shares ownership of it. A `Jets` never changes
/// after it was made, so copies are cheap and threads may share one.
///
/// Units: GeV. Every jet has at least one constituent.
///
/// Example:
/// @code
/// auto jets = rino::Jets<double>::from_columns({px, py, pz, e}, {0, 44, 91});
/// double first_pt = rino::pt(jets.four_momentum(0));
/// @endcode
template <std::floating_point Scalar>
class Jets {
 public:
  using Index = std::int64_t;
  /// One component of all constituents, [T], read-only, possibly strided.
  using Component = Eigen::Map<const Eigen::Array<Scalar, Eigen::Dynamic, 1>, Eigen::Unaligned, Eigen::InnerStride<>>;
  /// A column of extras, [T].
  using Extra = std::shared_ptr<const std::vector<Scalar>>;

  /// E >= |p| (1 - kEnergyTolerance) is asked of every constituent: what float32 rounding of a massless
  /// particle's components and of their sums leaves, with a margin of a hundred.
  static constexpr double kEnergyTolerance = 1e-5;
  /// E^2 >= |p|^2 - kMassTolerance^2 is enough, too, in GeV: masses of packed candidates are rounded, those of massless
  /// ones to -2e-3 GeV. A mass of -kMassTolerance or more counts as 0.
  static constexpr double kMassTolerance = 5e-3;

  /// Whether a constituent's energy is its momentum or more, up to rounding; false for NaN.
  static bool is_sound(double energy, double momentum) {
    return energy >= momentum * (1 - kEnergyTolerance) ||
           (energy >= 0 && (momentum - energy) * (momentum + energy) <= kMassTolerance * kMassTolerance);
  }

  /// Where one component lies: its first value and the distance between values, counted in `Scalar`s.
  struct Column {
    const Scalar* data = nullptr;
    Index stride = 1;
  };

  /// No jets.
  Jets() : offsets_(std::make_shared<const std::vector<Index>>(1, Index{0})) {}

  /// Jets over memory that `owner` keeps alive; the four-momenta are not copied.
  ///
  /// @param columns  px, py, pz, E, each of offsets.back() values.
  /// @param offsets  [n+1], starting at 0 and increasing.
  /// @throws rino::Error as `check` does.
  static Jets borrow(const std::array<Column, 4>& columns, std::vector<Index> offsets,
                     std::shared_ptr<const void> owner) {
    Jets jets(columns, std::move(offsets), std::move(owner));
    jets.check();
    return jets;
  }

  /// Jets over the caller's spans, each [T]; the spans must outlive the jets. @see borrow
  static Jets from_spans(std::span<const Scalar> px, std::span<const Scalar> py, std::span<const Scalar> pz,
                         std::span<const Scalar> e, std::vector<Index> offsets) {
    check_lengths({px.size(), py.size(), pz.size(), e.size()}, offsets);
    return borrow({Column{px.data()}, Column{py.data()}, Column{pz.data()}, Column{e.data()}}, std::move(offsets), {});
  }

  /// Jets that own the four columns, each [T]. @see borrow
  static Jets from_columns(std::array<std::vector<Scalar>, 4> columns, std::vector<Index> offsets) {
    check_lengths({columns[0].size(), columns[1].size(), columns[2].size(), columns[3].size()}, offsets);
    Jets jets = from_columns_unchecked(std::move(columns), std::move(offsets));
    jets.check();
    return jets;
  }

  /// As `from_columns`, for momenta that were computed from checked ones (sums, boosts).
  static Jets from_columns_unchecked(std::array<std::vector<Scalar>, 4> columns, std::vector<Index> offsets) {
    const auto owner = std::make_shared<const std::array<std::vector<Scalar>, 4>>(std::move(columns));
    return Jets({Column{(*owner)[0].data()}, Column{(*owner)[1].data()}, Column{(*owner)[2].data()},
                 Column{(*owner)[3].data()}},
                std::move(offsets), owner);
  }

  /// As `borrow`, for momenta that were checked before.
  static Jets borrow_unchecked(const std::array<Column, 4>& columns, std::vector<Index> offsets,
                               std::shared_ptr<const void> owner) {
    return Jets(columns, std::move(offsets), std::move(owner));
  }

  /// Number of jets n.
  Index size() const { return static_cast<Index>(offsets_->size()) - 1; }
  bool empty() const { return size() == 0; }
  /// Number of constituents T of all jets together.
  Index constituents() const { return offsets_->back(); }
  /// Number of constituents of jet j.
  Index multiplicity(Index j) const { return end(j) - begin(j); }
  /// First row of jet j.
  Index begin(Index j) const { return (*offsets_)[static_cast<std::size_t>(j)]; }
  /// One past the last row of jet j.
  Index end(Index j) const { return (*offsets_)[static_cast<std::size_t>(j) + 1]; }

  /// [n+1].
  const std::vector<Index>& offsets() const { return *offsets_; }
  std::shared_ptr<const std::vector<Index>> shared_offsets() const { return offsets_; }

  Component px() const { return component(0); }
  Component py() const { return component(1); }
  Component pz() const { return component(2); }
  Component e() const { return component(3); }
  const std::array<Column, 4>& columns() const { return columns_; }
  const std::shared_ptr<const void>& owner() const { return owner_; }

  /// The four-momentum of row i (of all constituents, not of one jet).
  FourMomentum<Scalar> constituent(Index i) const {
    return {columns_[0].data[i * columns_[0].stride], columns_[1].data[i * columns_[1].stride],
            columns_[2].data[i * columns_[2].stride], columns_[3].data[i * columns_[3].stride]};
  }

  /// The sum of jet j's constituents (E-scheme), summed as `Real`.
  template <std::floating_point Real = Scalar>
  FourMomentum<Real> four_momentum(Index j) const {
    FourMomentum<Real> sum = FourMomentum<Real>::Zero();
    for (Index i = begin(j); i < end(j); ++i) {
      sum += constituent(i).template cast<Real>();
    }
    return sum;
  }

  /// One label per jet, [n], or null.
  const std::shared_ptr<const std::vector<Index>>& labels() const { return labels_; }
  /// Extras per constituent by name (charge, impact parameters ...), each [T].
  const std::map<std::string, Extra>& extras() const { return extras_; }

  /// Values per jet by name (those that a file has beside the constituents), each [n].
  const std::map<std::string, Extra>& values() const { return values_; }
  /// Where the jets came from, or null.
  const std::shared_ptr<const JetOrigins>& origins() const { return origins_; }

  /// The same jets with labels.
  /// @throws rino::Error unless there is one label per jet, none negative.
  Jets with_labels(std::vector<Index> labels) const {
    require(static_cast<Index>(labels.size()) == size(), "there are ", labels.size(), " labels for ", size(),
            " jets: give one label per jet");
    for (std::size_t j = 0; j < labels.size(); ++j) {
      require(labels[j] >= 0, "the label of jet ", j, " is ", labels[j], ": labels are class numbers, 0 or more");
    }
    Jets jets = *this;
    jets.labels_ = std::make_shared<const std::vector<Index>>(std::move(labels));
    return jets;
  }

  /// The same jets without labels.
  Jets without_labels() const {
    Jets jets = *this;
    jets.labels_ = nullptr;
    return jets;
  }

  /// The same jets with one more column of extras.
  /// @throws rino::Error unless there is one value per constituent.
  Jets with_extra(const std::string& name, std::vector<Scalar> values) const {
    require(static_cast<Index>(values.size()) == constituents(), "the extra '", name, "' has ", values.size(),
            " values for ", constituents(), " constituents: give one value per constituent");
    Jets jets = *this;
    jets.extras_[name] = std::make_shared<const std::vector<Scalar>>(std::move(values));
    return jets;
  }

  /// The same jets with one more value per jet.
  /// @throws rino::Error unless there is one value per jet.
  Jets with_value(const std::string& name, std::vector<Scalar> values) const {
    require(static_cast<Index>(values.size()) == size(), "the value '", name, "' has ", values.size(), " entries for ",
            size(), " jets: give one per jet");
    Jets jets = *this;
    jets.values_[name] = std::make_shared<const std::vector<Scalar>>(std::move(values));
    return jets;
  }

  /// The same jets with their origins.
  /// @throws rino::Error unless there is one origin per jet, of a file that is named.
  Jets with_origins(JetOrigins origins) const {
    require(static_cast<Index>(origins.file.size()) == size() && origins.file.size() == origins.entry.size(),
            "there are ", origins.file.size(), " files and ", origins.entry.size(), " entries for ", size(),
            " jets: give one of each per jet");
    const std::size_t named = origins.files ? origins.files->size() : 0;
    for (std::size_t j = 0; j < origins.file.size(); ++j) {
      require(origins.file[j] >= 0 && static_cast<std::size_t>(origins.file[j]) < named && origins.entry[j] >= 0,
              "jet ", j, " comes from entry ", origins.entry[j], " of file ", origins.file[j], " of ", named,
              ": both count from 0");
    }
    Jets jets = *this;
    jets.origins_ = std::make_shared<const JetOrigins>(std::move(origins));
    return jets;
  }

  /// These constituents with the labels, values and origins of `source`: the same jets before a transform or a view.
  /// @throws rino::Error unless both have equally many jets.
  Jets annotated_as(const Jets& source) const {
    require(source.size() == size(), "annotations of ", source.size(), " jets do not fit ", size(), " jets");
    Jets jets = *this;
    jets.labels_ = source.labels_;
    jets.values_ = source.values_;
    jets.origins_ = source.origins_;
    return jets;
  }

  /// Jets first .. last-1; the four-momenta are not copied.
  /// @throws rino::Error unless 0 <= first <= last <= size().
  Jets slice(Index first, Index last) const {
    require(0 <= first && first <= last && last <= size(), "jets ", first, " to ", last, " were asked for, of ", size(),
            ": give 0 <= first <= last <= number of jets");
    const Index row = (*offsets_)[static_cast<std::size_t>(first)];
    const Index stop = (*offsets_)[static_cast<std::size_t>(last)];
    std::vector<Index> offsets(offsets_->begin() + first, offsets_->begin() + last + 1);
    for (Index& offset : offsets) {
      offset -= row;
    }
    std::array<Column, 4> columns = columns_;
    for (Column& column : columns) {
      column.data += row * column.stride;
    }
    Jets jets(columns, std::move(offsets), owner_);
    jets.annotate(*this, [first, last](const auto& values) {
      return std::remove_cvref_t<decltype(values)>(values.begin() + first, values.begin() + last);
    });
    for (const auto& [name, values] : extras_) {
      jets.extras_[name] = std::make_shared<const std::vector<Scalar>>(values->begin() + row, values->begin() + stop);
    }
    return jets;
  }

  /// The jets of the given numbers, in that order, copied.
  /// @throws rino::Error if a number is not in [0, size()).
  Jets select(std::span<const Index> numbers) const {
    std::vector<Index> offsets{0};
    offsets.reserve(numbers.size() + 1);
    for (const Index j : numbers) {
      require(0 <= j && j < size(), "jet ", j, " was asked for, of ", size(), ": numbers run from 0");
      offsets.push_back(offsets.back() + multiplicity(j));
    }
    std::array<std::vector<Scalar>, 4> columns;
    for (std::size_t c = 0; c < 4; ++c) {
      columns[c].reserve(static_cast<std::size_t>(offsets.back()));
      for (const Index j : numbers) {
        for (Index i = begin(j); i < end(j); ++i) {
          columns[c].push_back(columns_[c].data[i * columns_[c].stride]);
        }
      }
    }
    Jets jets = from_columns_unchecked(std::move(columns), std::move(offsets));
    jets.annotate(*this, [numbers](const auto& values) {
      std::remove_cvref_t<decltype(values)> picked;
      picked.reserve(numbers.size());
      for (const Index j : numbers) {
        picked.push_back(values[static_cast<std::size_t>(j)]);
      }
      return picked;
    });
    for (const auto& [name, values] : extras_) {
      std::vector<Scalar> picked;
      picked.reserve(static_cast<std::size_t>(jets.constituents()));
      for (const Index j : numbers) {
        picked.insert(picked.end(), values->begin() + begin(j), values->begin() + end(j));
      }
      jets.extras_[name] = std::make_shared<const std::vector<Scalar>>(std::move(picked));
    }
    return jets;
  }

  /// Throws `rino::Error` naming the first jet and constituent at fault, unless: offsets start at 0 and increase,
  /// every component is finite, and E >= |p| as `is_sound` has it.
  void check() const {
    const std::vector<Index>& offsets = *offsets_;
    require(!offsets.empty(), "offsets are empty: give n+1 numbers for n jets, starting with 0");
    require(offsets.front() == 0, "the first offset is ", offsets.front(), ": offsets start at 0");
    for (Index j = 0; j < size(); ++j) {
      require(end(j) >= begin(j), "offset ", j + 1, " is ", end(j), ", below the ", begin(j),
              " before it: offsets must increase");
      require(end(j) > begin(j), "jet ", j, " has no constituents: drop empty jets before making Jets");
    }
    static constexpr std::array<const char*, 4> names{"px", "py", "pz", "E"};
    for (Index j = 0; j < size(); ++j) {
      for (Index i = begin(j); i < end(j); ++i) {
        const FourMomentum<Scalar> p = constituent(i);
        for (int c = 0; c < 4; ++c) {
          require(std::isfinite(p[c]), names[static_cast<std::size_t>(c)], " of constituent ", i - begin(j), " of jet ",
                  j, " is ", p[c], ": momenta must be finite; drop or repair the jet");
        }
        const Scalar momentum = std::hypot(p[0], p[1], p[2]);
        require(is_sound(p[3], momentum), "constituent ", i - begin(j), " of jet ", j, " has E = ", p[3],
                " GeV below |p| = ", momentum, " GeV, by more than rounding leaves (", kEnergyTolerance, " of |p|, or ",
                kMassTolerance, " GeV of mass): check the order of the components (px, py, pz, E) and their unit");
      }
    }
  }

 private:
  Jets(const std::array<Column, 4>& columns, std::vector<Index> offsets, std::shared_ptr<const void> owner)
      : columns_(columns),
        offsets_(std::make_shared<const std::vector<Index>>(std::move(offsets))),
        owner_(std::move(owner)) {}

  static void check_lengths(const std::array<std::size_t, 4>& sizes, const std::vector<Index>& offsets) {
    require(sizes[1] == sizes[0] && sizes[2] == sizes[0] && sizes[3] == sizes[0], "px, py, pz and E have ", sizes[0],
            ", ", sizes[1], ", ", sizes[2], " and ", sizes[3], " values: give four of one length");
    require(!offsets.empty(), "offsets are empty: give n+1 numbers for n jets, starting with 0");
    require(offsets.back() == static_cast<Index>(sizes[0]), "the last offset is ", offsets.back(), " but there are ",
            sizes[0], " constituents: offsets are n+1 numbers from 0 to the number of constituents");
  }

  /// What `source` has per jet, of the jets that `pick(one entry per jet)` picks.
  template <typename Pick>
  void annotate(const Jets& source, const Pick& pick) {
    if (source.labels_) {
      labels_ = std::make_shared<const std::vector<Index>>(pick(*source.labels_));
    }
    for (const auto& [name, values] : source.values_) {
      values_[name] = std::make_shared<const std::vector<Scalar>>(pick(*values));
    }
    if (source.origins_) {
      const JetOrigins& from = *source.origins_;
      origins_ = std::make_shared<const JetOrigins>(JetOrigins{from.files, pick(from.file), pick(from.entry)});
    }
  }

  Component component(std::size_t c) const {
    return Component(columns_[c].data, constituents(), Eigen::InnerStride<>(columns_[c].stride));
  }

  std::array<Column, 4> columns_{};
  std::shared_ptr<const std::vector<Index>> offsets_;
  std::shared_ptr<const void> owner_;
  std::shared_ptr<const std::vector<Index>> labels_;
  std::map<std::string, Extra> extras_;
  std::map<std::string, Extra> values_;
  std::shared_ptr<const JetOrigins> origins_;
};

}  // namespace rino
