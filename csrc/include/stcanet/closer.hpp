// How many gallery rows come before each of many thresholds, from the embeddings: no [Q, G] matrix.
#pragma once

#include <cstdint>

#include "stcanet/distance.hpp"
#include "stcanet/sweep.hpp"
#include "stcanet/views.hpp"

namespace stcanet {

// Thresholds of each query: those of query i are start[i], ..., start[i + 1] - 1. Places compare with gallery indices
// and may lie outside of the gallery.
struct Thresholds {
    const std::int64_t* start;   // [Q + 1]
    const float* distances;      // [start[Q]]
    const std::int64_t* places;  // [start[Q]]
};

// counts[k] += how many gallery rows come before (distances[k], places[k]) in the order of (exact float32 distance,
// index). The result does not depend on instruction set, threads or scratch. Values as for top_k. `progress` is told
// (blocks done, of how many); `watch` of the rows that are read before.
void count_closer(Features query, Features gallery, Metric metric, Thresholds thresholds, Options options,
                  std::size_t scratch, std::int64_t* counts, const Progress& progress = {}, const Watch& watch = {});

}  // namespace stcanet
