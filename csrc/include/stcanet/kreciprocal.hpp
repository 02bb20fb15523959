// k-reciprocal sets and the Jaccard distance on sparse rows; definitions: stcanet_runtime/backends/reference.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "stcanet/parallel.hpp"
#include "stcanet/views.hpp"

namespace stcanet {

// Row i has the columns indices[start[i]] to indices[start[i + 1]], ascending.
struct SparseView {
    const std::int64_t* start = nullptr;  // [rows + 1]
    const std::int32_t* indices = nullptr;
    const float* values = nullptr;
    std::size_t rows = 0;
};

// The one result whose size nobody knows beforehand, so the core allocates it.
struct SparseRows {
    std::vector<std::int64_t> start;
    std::vector<std::int32_t> indices;
    std::vector<float> values;  // empty for sets
};

using Lists = Matrix<const std::int32_t>;  // [N, K] neighbours, nearest first

// The expanded k-reciprocal sets. `half` counts neighbours without self: the sets of candidates come from half + 1.
SparseRows expand(Lists neighbours, std::size_t half, std::size_t threads, const Watch& watch = {});

// Row i becomes the mean of the rows neighbours[i, :].
SparseRows average(SparseView rows, Lists neighbours, std::size_t threads, const Watch& watch = {});

// For queries [first, last) of the joint set and all gallery rows g: sum_j min(V_qj, V_gj), where it is not 0. The
// columns of the result count gallery rows from 0.
SparseRows overlaps(SparseView rows, std::size_t num_query, std::size_t first, std::size_t last, std::size_t threads,
                    const Watch& watch = {});

// In place, distances [R, G] to (1 - lambda) J + lambda (d / farthest)^power with J = 1 - m / (2 - m).
void blend(Matrix<float> distances, SparseView overlap, const float* farthest, int power, double lambda,
           std::size_t threads, const Watch& watch = {});

}  // namespace stcanet
