// The best gallery rows of every query after re-ranking, without any [Q, G] array, and exactly those.
//
// Candidates are the gallery rows that overlap with the query (J < 1) and its L nearest by plain distance. A row that
// is neither has J = 1 and at least the distance of the L-th: where that alone is above the last place, nothing was
// missed. Otherwise (ties, lambda near 0) the whole row is measured. A row that overlaps and is not listed is bounded
// in the same way, and measured only if it can win.
#pragma once

#include <cstdint>

#include "stcanet/kreciprocal.hpp"
#include "stcanet/neighbours.hpp"

namespace stcanet {

struct Best {
    Matrix<float> distances;       // [Q, m] (1 - lambda) J + lambda (d / farthest)^power in float64, rounded once
    Matrix<std::int64_t> indices;  // [Q, m] by (distance, index); infinity and -1 where nothing is visible
};

// `rows` is V [N, N], `farthest` [N]; `lists` holds the L nearest visible of every query, m <= L <= G or L = G.
// `progress` is told (queries done, of how many); `watch` of the rows that are read before.
void select_best(Features query, Features gallery, Metric metric, Options options, SparseView rows,
                 const float* farthest, int power, double lambda, const GalleryLists& lists, Best result,
                 const Progress& progress = {}, const Watch& watch = {});

}  // namespace stcanet
