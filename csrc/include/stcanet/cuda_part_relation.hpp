// CUDA launchers of the relation between parts. Take device pointers, shapes and a stream; need no torch and no Python.
#pragma once

#include <cuda_runtime_api.h>

namespace stcanet::cuda {

// How the nodes are stored; everything else is float32.
enum class Storage { fp32, fp16, bf16 };

struct RelationShape {
    int clips, nodes, depth;  // B, M = T·N, D
};

// out[i, j] = Σ_d w_d |x_id − x_jd| of each clip, never storing [B, M, M, D]; exactly symmetric.
//
// `nodes` is x [B, M, D], `weight` w [D], `out` [B, M, M]. Float32 sums of D terms, 32 partial ones.
// Returns at once when there is nothing to do, else the status of the launch. Works on the current device; does not
// synchronise.
cudaError_t relation_forward(const void* nodes, const float* weight, float* out, RelationShape shape, Storage storage,
                             cudaStream_t stream);

// dx [B, M, D] in the storage of the nodes, from `grad` dE [B, M, M], which need not be symmetric; and `grad_weight`
// [B, M, D], whose sum over B and M is dw. The gradient of |x| at 0 is 0. No atomics: the same bits every time.
cudaError_t relation_backward(const void* nodes, const float* weight, const float* grad, void* grad_nodes,
                              float* grad_weight, RelationShape shape, Storage storage, cudaStream_t stream);

}  // namespace stcanet::cuda
