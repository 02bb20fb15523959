// CUDA launcher of the distance matrix. Takes device pointers, shapes and a stream; needs no torch and no Python.
#pragma once

#include <cuda_runtime_api.h>

#include "stcanet/distance.hpp"

namespace stcanet::cuda {

// out[i, j] = distance(query i, gallery j).
//
// query [Q, D], gallery [G, D] and out [Q, G] are row-major device pointers. Float32 sums: of products for the cosine
// (absolute error of the distance up to (D + 3) 2^-24, plus one rounding; clamped to [0, 2]; a zero row is at distance
// 1 from everything), of squared differences for the euclidean (relative error up to (D + 4) 2^-24, no cancellation).
// The rows are used as they come: squares must stay inside the range of float32.
// Returns at once when Q or G is zero; otherwise the status of the launch. Does not synchronise.
cudaError_t distance_matrix(const float* query,    // [Q, D]
                            const float* gallery,  // [G, D]
                            float* out,            // [Q, G]
                            int q_rows, int g_rows, int depth, Metric metric, cudaStream_t stream);

}  // namespace stcanet::cuda
