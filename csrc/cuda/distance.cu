#include "stcanet/cuda_distance.hpp"

namespace stcanet::cuda {
namespace {

constexpr int kTile = 64;   // outputs per block in each direction
constexpr int kDepth = 16;  // columns staged in shared memory at a time
constexpr int kPer = 4;     // outputs per thread in each direction
constexpr int kThreads = kTile / kPer * (kTile / kPer);

// Copies rows [first, first + kTile), columns [p0, p0 + kDepth) of x [rows, depth] to tile, transposed; zero outside.
__device__ void stage(const float* x, int rows, int depth, int first, int p0, float (*tile)[kTile + 1]) {
    for (int e = threadIdx.x; e < kTile * kDepth; e += kThreads) {
        const int r = e / kDepth, p = e % kDepth;
        const bool inside = first + r < rows && p0 + p < depth;
        tile[p][r] = inside ? x[static_cast<size_t>(first + r) * depth + p0 + p] : 0.0F;
    }
}

__device__ float finish(float dot, float q_sq, float g_sq) {
    // Two roots and not the root of the product: the product of two squared lengths can leave the range of float32.
    const float lengths = sqrtf(q_sq) * sqrtf(g_sq);
    const float cosine = lengths > 0.0F ? dot / lengths : 0.0F;
    return fminf(fmaxf(1.0F - cosine, 0.0F), 2.0F);
}

template <Metric metric>
__global__ void __launch_bounds__(kThreads)
    distance_kernel(const float* query, const float* gallery, float* out, int q_rows, int g_rows, int depth) {
    __shared__ float q_tile[kDepth][kTile + 1], g_tile[kDepth][kTile + 1];
    const int i0 = blockIdx.y * kTile, j0 = blockIdx.x * kTile;
    const int ti = threadIdx.x / (kTile / kPer), tj = threadIdx.x % (kTile / kPer);
    float sum[kPer][kPer] = {}, q_sq[kPer] = {}, g_sq[kPer] = {};
    for (int p0 = 0; p0 < depth; p0 += kDepth) {
        stage(query, q_rows, depth, i0, p0, q_tile);
        stage(gallery, g_rows, depth, j0, p0, g_tile);
        __syncthreads();
        for (int p = 0; p < kDepth; ++p) {
            float q[kPer], g[kPer];
            for (int r = 0; r < kPer; ++r) {
                q[r] = q_tile[p][ti + r * (kTile / kPer)];
                g[r] = g_tile[p][tj + r * (kTile / kPer)];
                if (metric == Metric::cosine) {
                    q_sq[r] += q[r] * q[r];
                    g_sq[r] += g[r] * g[r];
                }
            }
            for (int r = 0; r < kPer; ++r)
                for (int c = 0; c < kPer; ++c) {
                    const float difference = q[r] - g[c];
                    sum[r][c] += metric == Metric::cosine ? q[r] * g[c] : difference * difference;
                }
        }
        __syncthreads();
    }
    for (int r = 0; r < kPer; ++r)
        for (int c = 0; c < kPer; ++c) {
            const int i = i0 + ti + r * (kTile / kPer), j = j0 + tj + c * (kTile / kPer);
            if (i >= q_rows || j >= g_rows) continue;
            out[static_cast<size_t>(i) * g_rows + j] =
                metric == Metric::cosine ? finish(sum[r][c], q_sq[r], g_sq[c]) : sqrtf(sum[r][c]);
        }
}

}  // namespace

cudaError_t distance_matrix(const float* query, const float* gallery, float* out, int q_rows, int g_rows, int depth,
                            Metric metric, cudaStream_t stream) {
    if (q_rows == 0 || g_rows == 0) return cudaSuccess;
    constexpr int max_grid_y = 65535;
    if ((q_rows + kTile - 1) / kTile > max_grid_y) return cudaErrorInvalidValue;
    const dim3 grid((g_rows + kTile - 1) / kTile, (q_rows + kTile - 1) / kTile);
    if (metric == Metric::cosine)
        distance_kernel<Metric::cosine><<<grid, kThreads, 0, stream>>>(query, gallery, out, q_rows, g_rows, depth);
    else
        distance_kernel<Metric::euclidean><<<grid, kThreads, 0, stream>>>(query, gallery, out, q_rows, g_rows, depth);
    return cudaGetLastError();
}

}  // namespace stcanet::cuda
