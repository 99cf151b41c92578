#pragma once

#ifdef RINO_FASTJET
#include <rino/views/fastjet.hpp>
#else
#include <rino/views/plain_clusterer.hpp>
#endif

namespace rino {

/// What clusters the jets that FastClusterer leaves: FastJet where RINO_FASTJET is defined, as the target rino::fastjet
/// does it, else PlainClusterer. Whether FastJet's headers lie somewhere is not asked: a program that finds them does
/// not link its library for that. All files of a program have to agree.
#ifdef RINO_FASTJET
template <ClusteringAlgorithm Algorithm>
using ReferenceClusterer = FastJetClusterer<Algorithm>;
#else
template <ClusteringAlgorithm Algorithm>
using ReferenceClusterer = PlainClusterer<Algorithm>;
#endif

}  // namespace rino
