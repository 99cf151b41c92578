#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <rino/core/error.hpp>
#include <rino/core/fields.hpp>
#include <rino/core/named_enum.hpp>
#include <rino/views/resolution.hpp>

namespace rino {

/// How the teacher's scores become assignments.
enum class Assignment { sinkhorn, centering };

template <>
inline constexpr std::array enum_names<Assignment> = {
    std::pair{Assignment::sinkhorn, std::string_view("sinkhorn")},
    std::pair{Assignment::centering, std::string_view("centering")},
};

template <>
struct FieldCodec<std::vector<Resolution>> {
  static FieldValue encode(const std::vector<Resolution>& resolutions) {
    std::vector<std::string> names;
    for (const Resolution& resolution : resolutions) {
      names.push_back(resolution.name());
    }
    return names;
  }

  static std::vector<Resolution> decode(const FieldValue& value, const std::string& what) {
    const auto* names = std::get_if<std::vector<std::string>>(&value);
    require(names != nullptr, what, " is not a list: give resolutions, as in [1, 2, 8, \"all\"]");
    std::vector<Resolution> resolutions;
    for (const std::string& name : *names) {
      resolutions.push_back(Resolution::parse(name));
    }
    return resolutions;
  }
};

/// Which views teacher and student see; the defaults are the paper's.
struct ViewSetOptions {
  std::vector<Resolution> teacher{subjets(1), subjets(2), subjets(3), subjets(4)};
  std::vector<Resolution> student{subjets(8), subjets(16), subjets(32), subjets(64), particles()};
  std::int64_t student_drawn = 0;
  bool drawn_alike = true;

  bool operator==(const ViewSetOptions&) const = default;

  static constexpr auto fields() {
    using Self = ViewSetOptions;
    return std::tuple{
        Field{"teacher", &Self::teacher, "", "resolutions that teacher and student see in every step"},
        Field{"student", &Self::student, "", "resolutions that only the student sees"},
        Field{"student_drawn", &Self::student_drawn, "",
              "how many of the student's own resolutions are drawn for a step; 0: all"},
        Field{"drawn_alike", &Self::drawn_alike, "", "whether every process of a run draws the same resolutions",
              kOwnChoice},
    };
  }
};

/// Temperatures, assignment, weights and the teacher's momentum; the defaults are the paper's.
struct SelfDistillationOptions {
  double dino = 1.0;
  double ibot = 0.0;
  double mask_fraction = 0.25;
  double gram = 0.0;
  double koleo = 1.0;
  double student_temperature = 0.10;
  double teacher_temperature_start = 0.04;
  double teacher_temperature_end = 0.07;
  double teacher_temperature_rise = 0.2;
  Assignment assignment = Assignment::sinkhorn;
  std::int64_t sinkhorn_iterations = 3;
  double center_momentum = 0.9;
  double momentum_start = 0.992;
  double momentum_end = 1.0;

  bool operator==(const SelfDistillationOptions&) const = default;

  static constexpr auto fields() {
    using Self = SelfDistillationOptions;
    return std::tuple{
        Field{"dino", &Self::dino, "", "weight of the agreement between views of a jet; 0: off"},
        Field{"ibot", &Self::ibot, "", "weight of the agreement on masked constituents (iBOT); 0: off"},
        Field{"mask_fraction", &Self::mask_fraction, "",
              "share of a jet's constituents that iBOT masks, at least one and not all", kProductionSource},
        Field{"gram", &Self::gram, "",
              "weight of the agreement on the constituents' mutual cosines (Gram matrices); 0: off",
              "arXiv:2508.10104"},
        Field{"koleo", &Self::koleo, "", "weight of the KoLeo loss, the mean over the teacher's views; 0: off"},
        Field{"student_temperature", &Self::student_temperature, "", "temperature of the student's softmax"},
        Field{"teacher_temperature_start", &Self::teacher_temperature_start, "",
              "temperature of the teacher's assignment, first step"},
        Field{"teacher_temperature_end", &Self::teacher_temperature_end, "",
              "temperature of the teacher's assignment, after its rise, which is a cosine"},
        Field{"teacher_temperature_rise", &Self::teacher_temperature_rise, "",
              "share of the run in which the teacher's temperature rises"},
        Field{"assignment", &Self::assignment, "", "of teacher's scores to prototypes: 'sinkhorn' or 'centering'"},
        Field{"sinkhorn_iterations", &Self::sinkhorn_iterations, "", "iterations of Sinkhorn-Knopp"},
        Field{"center_momentum", &Self::center_momentum, "", "momentum of the centre, where assignment is 'centering'",
              "arXiv:2104.14294"},
        Field{"momentum_start", &Self::momentum_start, "", "momentum of the teacher's moving average, first step"},
        Field{"momentum_end", &Self::momentum_end, "",
              "momentum of the teacher's moving average, last step; a cosine leads there"},
    };
  }
};

}  // namespace rino
