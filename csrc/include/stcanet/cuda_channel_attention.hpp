// CUDA launchers of the channel attention. Take device pointers, shapes and a stream; need no torch and no Python.
#pragma once

#include <cuda_runtime_api.h>

namespace stcanet::cuda {

// How values are stored, and what the tensor cores multiply. Sums, logits and softmax are float32 in all of them.
enum class Precision {
    fp16,    // all GPUs from Turing on
    bf16,    // from Ampere on, like the two below
    tf32,    // float32, rounded to 11 bits for each product
    tf32x3,  // float32, as three such products: float32 accuracy
};

struct ChannelShape {
    int clips, rows, depth;  // B, R = T·C, P
};

// Y = softmax(G Gᵀ) G for each clip, never storing [R, R].
//
// `rows` is G, `mixed` is Y, both [B, R, P] and contiguous; `log_sum` [B, R] is what the backward pass needs. Any
// shape; P up to 128 or 512 is computed in one pass, more in slices that each compute the logits anew. Rows that begin
// at multiples of 16 bytes are copied faster. Returns at once when there is nothing to do, cudaErrorNotSupported where
// the GPU lacks the instructions, else the status of the launch. Works on the current device; does not synchronise.
cudaError_t channel_forward(const void* rows, void* mixed, float* log_sum, ChannelShape shape, Precision precision,
                            cudaStream_t stream);

// dG from G, Y, L and dY. Each block owns its rows of the result: no atomics, the same bits every time.
// `scratch` [B, R] is overwritten.
cudaError_t channel_backward(const void* rows, const void* mixed, const float* log_sum, const void* grad_mixed,
                             void* grad_rows, float* scratch, ChannelShape shape, Precision precision,
                             cudaStream_t stream);

}  // namespace stcanet::cuda
