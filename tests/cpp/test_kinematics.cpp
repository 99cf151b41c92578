#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>
#include <vector>

#include <rino/core/random.hpp>
#include <rino/jets/kinematics.hpp>

#include "catch.hpp"

namespace {

using rino::FourMomentum;

struct Reference {
  std::array<double, 4> p;
  double pt;
  double eta;
  double rapidity;
  double phi;
  double mass;
};

// Computed with mpmath at 60 digits from the exact binary values of p.
const std::vector<Reference> kReferences{
    {{3, 4, 12, 13.5},
     5.0,
     1.6094379124341003746,
     1.4166066720281080401,
     0.92729521800161223243,
     3.6400549446402591355},
    {{1e-150, -2e-150, 3e-150, 4e-150},
     2.2360679774997897105e-150,
     1.1035868415601452848,
     0.97295507452765673008,
     -1.107148717794090503,
     1.4142135623730947699e-150},
    {{1e-09, 0, 1000.0, 1000.0}, 1.0000000000000000623e-9, 28.324168296488493455, 28.324168296488493455, 0.0, 0.0},
    {{1e-12, 0, 1.0, 1.0}, 9.9999999999999997989e-13, 28.324168296488493538, 28.324168296488493538, 0.0, 0.0},
    {{-1e-12, 1e-13, -1.0, 1.0},
     1.0049875621120890073e-12,
     -28.319193131061909496,
     -28.319193131061909496,
     3.0419240010986312061,
     0.0},
    {{300.25, -400.5, 0.125, 510.0},
     500.55000998901198703,
     0.00024972529458848797835,
     0.00024509804412361527718,
     -0.927494998240688439,
     97.722422580490706949},
    {{1, 1, 1e-10, 2},
     1.4142135623730950488,
     7.0710678118654755016e-11,
     5.0000000000000001822e-11,
     0.78539816339744830962,
     1.4142135623730950488},
    {{1e-300, 0, 1e+300, 1.5e+300},
     1.0000000000000000251e-300,
     1382.2442029769873557,
     0.8047189562170501873,
     0.0,
     1.1180339887498949069e+300},
    {{5e-324, 0, 1e+300, 1.5e+300},
     4.9406564584124654418e-324,
     1435.9087470001549129,
     0.8047189562170501873,
     0.0,
     1.1180339887498949069e+300},
    {{-7.5, 1e-17, 3, 8.25},
     7.5,
     0.39003531977071527608,
     0.38107002602344838045,
     3.1415926535897932371,
     1.6770509831248422723},
};

bool close(double value, double reference, double tolerance) {
  return std::abs(value - reference) <= tolerance * std::abs(reference);
}

}  // namespace

TEST_CASE("kinematics agree with 60-digit references, near the beam, soft, massless and tiny", "[kinematics]") {
  for (const Reference& r : kReferences) {
    const FourMomentum<double> p(r.p[0], r.p[1], r.p[2], r.p[3]);
    INFO("p = " << p.transpose());
    CHECK(close(rino::pt(p), r.pt, 4e-16));
    CHECK(close(rino::eta(p), r.eta, 1e-15));
    CHECK(close(rino::rapidity(p), r.rapidity, 2e-15));
    CHECK(close(rino::phi(p), r.phi, 4e-16));
    CHECK(close(rino::mass(p), r.mass, 4e-15));
  }
}

TEMPLATE_TEST_CASE("kinematics agree with long double to a few roundings", "[kinematics]", float, double) {
  using Scalar = TestType;
  const double epsilon = std::numeric_limits<Scalar>::epsilon();
  rino::Random random({3});
  double worst_pt = 0.0;
  double worst_eta = 0.0;
  double worst_phi = 0.0;
  double worst_mass = 0.0;
  double worst_rapidity = 0.0;
  for (int i = 0; i < 20000; ++i) {
    const double size = std::exp(random.uniform(-20.0, 12.0));
    const double rapidity = random.uniform(-8.0, 8.0);
    const double azimuth = random.uniform(-4.0, 4.0);
    const double transverse_mass = size * random.uniform(1.5, 3.0);
    const FourMomentum<Scalar> p(static_cast<Scalar>(size * std::cos(azimuth)),
                                 static_cast<Scalar>(size * std::sin(azimuth)),
                                 static_cast<Scalar>(transverse_mass * std::sinh(rapidity)),
                                 static_cast<Scalar>(transverse_mass * std::cosh(rapidity)));
    const long double px = p[0];
    const long double py = p[1];
    const long double pz = p[2];
    const long double e = p[3];
    const long double pt = std::sqrt(px * px + py * py);
    const auto relative = [](long double value, long double reference) {
      return static_cast<double>(std::abs(value - reference) / std::abs(reference));
    };
    worst_pt = std::max(worst_pt, relative(rino::pt(p), pt));
    worst_eta = std::max(worst_eta, relative(rino::eta(p), std::asinh(pz / pt)));
    worst_phi = std::max(worst_phi, relative(rino::phi(p), std::atan2(py, px)));
    // m^2 = (E - |p|)(E + |p|) with |p| of the given precision: the error of E - |p| is one rounding of E.
    const long double mass = std::sqrt(e * e - px * px - py * py - pz * pz);
    const long double amplification = e * e / (mass * mass);
    worst_mass = std::max(worst_mass, relative(rino::mass(p), mass) / static_cast<double>(amplification));
    worst_rapidity =
        std::max(worst_rapidity, relative(rino::rapidity(p), std::asinh(pz / std::sqrt(pt * pt + mass * mass))) /
                                     static_cast<double>(1 + amplification / std::abs(std::asinh(pz / pt))));
  }
  CHECK(worst_pt < 2 * epsilon);
  CHECK(worst_eta < 3 * epsilon);
  CHECK(worst_phi < 2 * epsilon);
  CHECK(worst_mass < 3 * epsilon);
  CHECK(worst_rapidity < 3 * epsilon);
}

TEMPLATE_TEST_CASE("along the beam and at rest nothing is NaN", "[kinematics]", float, double) {
  using Scalar = TestType;
  using P = FourMomentum<Scalar>;
  constexpr Scalar infinity = std::numeric_limits<Scalar>::infinity();
  for (const Scalar zero : {Scalar(0), -Scalar(0)}) {
    CHECK(rino::pt(P(zero, zero, 5, 5)) == 0);
    CHECK(rino::phi(P(zero, zero, 5, 5)) == 0);
    CHECK(rino::eta(P(zero, zero, 5, 5)) == infinity);
    CHECK(rino::eta(P(zero, zero, -5, 5)) == -infinity);
    CHECK(rino::rapidity(P(zero, zero, 5, 5)) == infinity);
    CHECK(rino::rapidity(P(zero, zero, -5, 5)) == -infinity);
    CHECK(std::abs(rino::rapidity(P(zero, zero, 3, 5)) - std::atanh(Scalar(0.6))) < 1e-6);
    CHECK(rino::eta(P(zero, zero, zero, zero)) == 0);
    CHECK(rino::rapidity(P(zero, zero, zero, zero)) == 0);
    CHECK(rino::mass(P(zero, zero, zero, zero)) == 0);
    CHECK(rino::mass(P(zero, zero, zero, 2)) == 2);
  }
}

TEST_CASE("an energy rounded below the momentum gives mass zero and the rapidity of a massless particle",
          "[kinematics]") {
  const FourMomentum<float> p(3.0F, 4.0F, 12.0F, 12.9999F);
  CHECK(rino::mass_squared(p) < 0);
  CHECK(rino::mass(p) == 0);
  CHECK(rino::rapidity(p) == rino::eta(p));
}

TEMPLATE_TEST_CASE("phi and its differences lie above -pi and up to pi", "[kinematics]", float, double) {
  using Scalar = TestType;
  constexpr Scalar pi = std::numbers::pi_v<Scalar>;
  CHECK(rino::phi(FourMomentum<Scalar>(-1, Scalar(0), 0, 1)) == pi);
  CHECK(rino::phi(FourMomentum<Scalar>(-1, -Scalar(0), 0, 1)) == pi);
  CHECK(rino::phi(FourMomentum<Scalar>(0, -1, 0, 1)) == -pi / 2);

  CHECK(rino::delta_phi(pi, Scalar(0)) == pi);
  CHECK(rino::delta_phi(-pi, Scalar(0)) == pi);
  CHECK(rino::delta_phi(Scalar(0), pi) == pi);
  CHECK(rino::delta_phi(pi, -pi) == 0);
  CHECK(rino::delta_phi(Scalar(0.25), Scalar(0.5)) == Scalar(-0.25));
  CHECK(std::abs(rino::delta_phi(Scalar(3), Scalar(-3)) - (6 - 2 * std::numbers::pi)) < 1e-6);

  rino::Random random({5});
  double worst = 0.0;
  bool inside = true;
  for (int i = 0; i < 20000; ++i) {
    const auto one = static_cast<Scalar>(random.uniform(-10.0, 10.0));
    const auto two = static_cast<Scalar>(random.uniform(-10.0, 10.0));
    const Scalar difference = rino::delta_phi(one, two);
    inside = inside && difference > -pi && difference <= pi;
    const double chord = std::remainder(
        static_cast<double>(one) - static_cast<double>(two) - static_cast<double>(difference), 2 * std::numbers::pi);
    worst = std::max(worst, std::abs(chord));
  }
  CHECK(inside);
  CHECK(worst < 20 * std::numeric_limits<Scalar>::epsilon());
}
