// The k nearest rows and the largest distance of every row of a set to the whole set, each product computed once.
#pragma once

#include <cstdint>

#include "stcanet/distance.hpp"
#include "stcanet/sweep.hpp"
#include "stcanet/views.hpp"

namespace stcanet {

struct Neighbours {
    Matrix<std::int32_t> indices;  // [N, k], by (exact float32 distance, index); a row is among its own neighbours
    Matrix<float> distances;       // [N, k]
    float* farthest;               // [N] exact
};

// The nearest visible gallery rows of every query, as `top_k` gives them.
struct GalleryLists {
    Matrix<float> distances;       // [Q, L]
    Matrix<std::int64_t> indices;  // [Q, L]
    Groups groups;
};

// Queries come before gallery rows in the joint set of N = Q + G rows; 1 <= k <= N. `dense` [Q, G] and `lists`, if they
// have data, are filled from the same products. `progress` is told of these, `watch` of what comes before and after.
void neighbours(Features query, Features gallery, Metric metric, Options options, std::size_t scratch,
                Neighbours result, Matrix<float> dense, const GalleryLists& lists, const Progress& progress = {},
                const Watch& watch = {});

// Distances of the pairs (rows[p], cols[p]) of the joint set, by definition.
void pair_distances(Features query, Features gallery, Metric metric, Options options, const std::int64_t* rows,
                    const std::int64_t* cols, std::size_t count, float* out, const Watch& watch = {});

// The k smallest values of each row of [R, N], by (value, index).
void smallest(Features values, std::size_t k, std::size_t threads, Matrix<float> found, Matrix<std::int32_t> indices,
              const Watch& watch = {});

}  // namespace stcanet
