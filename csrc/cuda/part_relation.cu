#include "device.hpp"
#include "part_relation.hpp"
#include "stcanet/cuda_part_relation.hpp"

namespace stcanet::cuda {
namespace {

constexpr int kThreads = 128;

template <class E>
__global__ void __launch_bounds__(kThreads) forward_kernel(RelationArgs<E> args, float* out) {
    Device exec;
    relation_forward(exec, args, out, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), kThreads / kWarp);
}

template <class E>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(RelationArgs<E> args, const float* grad, typename E::Storage* grad_nodes, float* grad_weight) {
    Device exec;
    relation_backward(exec, args, grad, grad_nodes, grad_weight, static_cast<int>(blockIdx.y),
                      static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.z) * kThreads + exec.thread());
}

template <class Call>
cudaError_t with_storage(Storage storage, RelationShape shape, Call call) {
    constexpr int max_grid = 65535;  // of the second and third dimension
    if (shape.clips == 0 || shape.nodes == 0) return cudaSuccess;
    if (shape.depth == 0 || shape.clips > max_grid || shape.depth / kThreads >= max_grid) return cudaErrorInvalidValue;
    switch (storage) {
        case Storage::fp32:
            call(Tf32{});
            break;
        case Storage::fp16:
            call(Fp16{});
            break;
        case Storage::bf16:
            call(Bf16{});
            break;
    }
    return cudaGetLastError();
}

template <class E>
RelationArgs<E> arguments(const void* nodes, const float* weight, RelationShape shape) {
    return {static_cast<const typename E::Storage*>(nodes), weight, shape.nodes, shape.depth};
}

}  // namespace

cudaError_t relation_forward(const void* nodes, const float* weight, float* out, RelationShape shape, Storage storage,
                             cudaStream_t stream) {
    return with_storage(storage, shape, [&](auto element) {
        using E = decltype(element);
        const dim3 grid(shape.nodes, shape.clips);
        forward_kernel<E><<<grid, kThreads, 0, stream>>>(arguments<E>(nodes, weight, shape), out);
    });
}

cudaError_t relation_backward(const void* nodes, const float* weight, const float* grad, void* grad_nodes,
                              float* grad_weight, RelationShape shape, Storage storage, cudaStream_t stream) {
    return with_storage(storage, shape, [&](auto element) {
        using E = decltype(element);
        const dim3 grid(shape.nodes, shape.clips, ceil_div(shape.depth, kThreads));
        backward_kernel<E><<<grid, kThreads, 0, stream>>>(arguments<E>(nodes, weight, shape), grad,
                                                          static_cast<typename E::Storage*>(grad_nodes), grad_weight);
    });
}

}  // namespace stcanet::cuda
