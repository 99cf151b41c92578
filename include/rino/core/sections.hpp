#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/names.hpp>

namespace rino {

/// One number of a section, ready to be shown.
struct SectionEntry {
  std::string section;
  std::string name;
  std::string unit;
  std::string meaning;
  std::string source;  ///< where its default comes from; "": the publication of the recipe
  FieldValue value;
};

/// The numbers of a config struct.
template <typename Config>
std::vector<SectionEntry> entries_of(const std::string& section, const Config& config = {}) {
  std::vector<SectionEntry> entries;
  for_each_field<Config>([&]<typename Type>(const Field<Config, Type>& field) {
    entries.push_back(
        {section, field.name, field.unit, field.meaning, field.source, FieldCodec<Type>::encode(config.*field.member)});
  });
  return entries;
}

/// Config structs by the names of their sections, in order; what type each is only those who asked for it know. So a
/// recipe holds sections of methods it has never heard of. A copy shares nothing.
class Sections {
 public:
  /// Adds a section. @throws rino::Error if there is one of that name.
  template <typename Config>
  Sections& add(std::string name, Config config = {}) {
    require(find(name) == nullptr, "there are two sections '", name, "': give one of them another name");
    sections_.emplace_back(std::move(name), std::make_unique<Of<Config>>(std::move(config)));
    return *this;
  }

  /// Adds a section of numbers that are known at run time alone, whose defaults and types are those of the entries.
  /// @throws rino::Error as `add`, or if two have one name.
  Sections& add(const std::string& name, std::vector<SectionEntry> numbers) {
    require(find(name) == nullptr, "there are two sections '", name, "': give one of them another name");
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      require(std::none_of(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(i),
                           [&](const SectionEntry& other) { return other.name == numbers[i].name; }),
              "section '", name, "' has two numbers '", numbers[i].name, "': give one of them another name");
    }
    sections_.emplace_back(name, std::make_unique<Listed>(std::move(numbers)));
    return *this;
  }

  /// Adds all sections of `others`. @throws rino::Error as `add`.
  Sections& add(const Sections& others) {
    for (const auto& [name, section] : others.sections_) {
      require(find(name) == nullptr, "there are two sections '", name, "': give one of them another name");
      sections_.emplace_back(name, section->clone());
    }
    return *this;
  }

  /// A section as the struct that it is. @throws rino::Error if there is none of that name and type.
  template <typename Config>
  Config& get(std::string_view name) {
    auto* const section = dynamic_cast<Of<Config>*>(find(name));
    require(section != nullptr, "there is no section '", name, "' of that type, only: ", keys_of(sections_));
    return section->config;
  }
  template <typename Config>
  const Config& get(std::string_view name) const {
    return const_cast<Sections*>(this)->get<Config>(name);
  }

  /// Puts another struct in the place of a section, or adds it.
  template <typename Config>
  Sections& put(std::string_view name, Config config = {}) {
    for (auto& [known, section] : sections_) {
      if (known == name) {
        section = std::make_unique<Of<Config>>(std::move(config));
        return *this;
      }
    }
    return add(std::string(name), std::move(config));
  }

  /// One number. @throws rino::Error if there is none of that name.
  FieldValue value(std::string_view section, std::string_view name) const {
    for (SectionEntry& entry : entries()) {
      if (entry.section == section && entry.name == name) {
        return std::move(entry.value);
      }
    }
    fail("the recipe has no '", section, ".", name, "'");
  }

  bool contains(std::string_view name) const { return find(name) != nullptr; }

  /// All numbers in order.
  std::vector<SectionEntry> entries() const {
    std::vector<SectionEntry> all;
    for (const auto& [name, section] : sections_) {
      section->append(all, name);
    }
    return all;
  }

  /// Sets one number. @throws rino::Error if there is none of that name, or for a value of the wrong type.
  void set(std::string_view section, std::string_view name, const FieldValue& value) {
    Base* const found = find(section);
    require(found != nullptr && found->set(section, name, value), "the recipe has no '", section, ".", name, "'");
  }

  bool operator==(const Sections& other) const {
    return std::equal(sections_.begin(), sections_.end(), other.sections_.begin(), other.sections_.end(),
                      [](const auto& a, const auto& b) { return a.first == b.first && a.second->equals(*b.second); });
  }

  Sections() = default;
  Sections(const Sections& other) { add(other); }
  Sections& operator=(const Sections& other) {
    Sections copy(other);
    std::swap(sections_, copy.sections_);
    return *this;
  }
  Sections(Sections&&) = default;
  Sections& operator=(Sections&&) = default;
  ~Sections() = default;

 private:
  struct Base {
    Base() = default;
    Base(const Base&) = delete;
    Base& operator=(const Base&) = delete;
    virtual ~Base() = default;
    virtual std::unique_ptr<Base> clone() const = 0;
    virtual void append(std::vector<SectionEntry>& all, const std::string& section) const = 0;
    virtual bool set(std::string_view section, std::string_view name, const FieldValue& value) = 0;
    virtual bool equals(const Base& other) const = 0;
  };

  template <typename Config>
  struct Of final : Base {
    explicit Of(Config given) : config(std::move(given)) {}

    std::unique_ptr<Base> clone() const override { return std::make_unique<Of>(config); }

    void append(std::vector<SectionEntry>& all, const std::string& section) const override {
      for (SectionEntry& entry : entries_of(section, config)) {
        all.push_back(std::move(entry));
      }
    }

    bool set(std::string_view section, std::string_view name, const FieldValue& value) override {
      bool found = false;
      for_each_field<Config>([&]<typename Type>(const Field<Config, Type>& field) {
        if (name == field.name) {
          config.*field.member = FieldCodec<Type>::decode(value, std::string(section).append(".").append(name));
          found = true;
        }
      });
      return found;
    }

    bool equals(const Base& other) const override {
      const auto* const same = dynamic_cast<const Of*>(&other);
      return same != nullptr && same->config == config;
    }

    Config config;
  };

  /// Numbers without a struct.
  struct Listed final : Base {
    explicit Listed(std::vector<SectionEntry> given) : numbers(std::move(given)) {}

    std::unique_ptr<Base> clone() const override { return std::make_unique<Listed>(numbers); }

    void append(std::vector<SectionEntry>& all, const std::string& section) const override {
      for (const SectionEntry& number : numbers) {
        all.push_back(number);
        all.back().section = section;
      }
    }

    bool set(std::string_view section, std::string_view name, const FieldValue& value) override {
      const auto number = std::find_if(numbers.begin(), numbers.end(), [&](const auto& n) { return n.name == name; });
      if (number == numbers.end()) {
        return false;
      }
      const std::string what = std::string(section).append(".").append(name);
      std::visit([&]<typename Type>(Type& held) { held = FieldCodec<Type>::decode(value, what); }, number->value);
      return true;
    }

    bool equals(const Base& other) const override {
      const auto* const same = dynamic_cast<const Listed*>(&other);
      return same != nullptr &&
             std::equal(numbers.begin(), numbers.end(), same->numbers.begin(), same->numbers.end(),
                        [](const auto& a, const auto& b) { return a.name == b.name && a.value == b.value; });
    }

    std::vector<SectionEntry> numbers;
  };

  Base* find(std::string_view name) const {
    for (const auto& [known, section] : sections_) {
      if (known == name) {
        return section.get();
      }
    }
    return nullptr;
  }

  std::vector<std::pair<std::string, std::unique_ptr<Base>>> sections_;
};

}  // namespace rino
