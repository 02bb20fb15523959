// Ranks of the true matches of every query, by counting what comes before them: nothing is sorted.
#pragma once

#include <cstdint>

#include "stcanet/distance.hpp"
#include "stcanet/views.hpp"

namespace stcanet {

// Gallery indices of each query: those of query i are indices[start[i]], ..., indices[start[i + 1] - 1], ascending.
struct IndexLists {
    const std::int64_t* start;    // [Q + 1]
    const std::int64_t* indices;  // [start[Q]]
};

// What is to be found, and what is left out of the ranking: hidden from one query, or junk for all.
struct Truth {
    IndexLists matches, hidden;
    const std::int64_t* junk;  // ascending
    std::size_t num_junk;
};

// ranks[k], from 1: place of the matches of each query among what it sees, in the order of (distance, gallery index);
// ascending within a query. Returns false, with ranks that mean nothing, when any of the distances is NaN.
template <typename Real>
bool ranks(Matrix<const Real> distances, const Truth& truth, Options options, std::int64_t* ranks,
           const Watch& watch = {});

}  // namespace stcanet
