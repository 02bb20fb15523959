#include <cstdint>

#include "channel_attention.hpp"
#include "channel_shapes.hpp"
#include "device.hpp"
#include "stcanet/cuda_channel_attention.hpp"

namespace stcanet::cuda {
namespace {

// Turing's tensor cores know float16 only; kernels of the other types are empty there and never launched.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <class E>
constexpr bool runs_here = std::is_same_v<E, Fp16>;
#else
template <class E>
constexpr bool runs_here = true;
#endif

STCANET_DEVICE Place place_of_block() {
    return {static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z)};
}

template <class E, class S>
__global__ void __launch_bounds__(S::kThreads) forward_kernel(ForwardArgs<E> args) {
    if constexpr (runs_here<E>) {
        Device exec;
        channel_forward<Device, E, S>(exec, args, place_of_block());
    }
}

template <class E, class S>
__global__ void __launch_bounds__(S::kThreads) backward_kernel(BackwardArgs<E> args) {
    if constexpr (runs_here<E>) {
        Device exec;
        channel_backward<Device, E, S>(exec, args, place_of_block());
    }
}

constexpr int kDotWarps = 4;

template <class E>
__global__ void __launch_bounds__(kDotWarps* kWarp)
    dot_kernel(const typename E::Storage* grad, const typename E::Storage* mixed, float* out, int rows, int depth) {
    if constexpr (runs_here<E>) {
        const int row = static_cast<int>(blockIdx.x) * kDotWarps + static_cast<int>(threadIdx.x) / kWarp;
        Device exec;
        if (row < rows) dot_rows(exec, E{}, grad, mixed, out, row, depth);
    }
}

struct Limits {
    int shared = 0, generation = 0;
};

cudaError_t read_limits(Limits& limits) {
    int device = 0;
    cudaError_t status = cudaGetDevice(&device);
    if (status == cudaSuccess)
        status = cudaDeviceGetAttribute(&limits.shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (status == cudaSuccess)
        status = cudaDeviceGetAttribute(&limits.generation, cudaDevAttrComputeCapabilityMajor, device);
    return status;
}

template <class S, class Args>
cudaError_t launch(void (*kernel)(Args), const Args& args, int bytes, ChannelShape shape, cudaStream_t stream) {
    const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (status != cudaSuccess) return status;
    const dim3 grid(ceil_div(shape.rows, S::kRows), ceil_div(shape.depth, S::kWidth), shape.clips);
    kernel<<<grid, S::kThreads, bytes, stream>>>(args);
    return cudaGetLastError();
}

// The first shape of the list that takes the depth in one pass and fits the GPU; the last one takes everything.
template <class E, class S, class... Rest>
cudaError_t forward(Shapes<S, Rest...>, const ForwardArgs<E>& args, ChannelShape shape, const Limits& limits,
                    cudaStream_t stream) {
    constexpr int bytes = ForwardMemory<E, S>::kBytes;
    if constexpr (sizeof...(Rest) > 0)
        if (!suits<S>(shape.depth) || bytes > limits.shared)
            return forward(Shapes<Rest...>{}, args, shape, limits, stream);
    return launch<S>(&forward_kernel<E, S>, args, bytes, shape, stream);
}

template <class E, class S, class... Rest>
cudaError_t backward(Shapes<S, Rest...>, const BackwardArgs<E>& args, ChannelShape shape, const Limits& limits,
                     cudaStream_t stream) {
    constexpr int bytes = BackwardMemory<E, S>::kBytes;
    if constexpr (sizeof...(Rest) > 0)
        if (!suits<S>(shape.depth) || bytes > limits.shared)
            return backward(Shapes<Rest...>{}, args, shape, limits, stream);
    return launch<S>(&backward_kernel<E, S>, args, bytes, shape, stream);
}

constexpr int kMaxGrid = 65535;  // of the second and third dimension

bool is_empty(ChannelShape shape) { return shape.clips == 0 || shape.rows == 0 || shape.depth == 0; }

bool is_launchable(ChannelShape shape) {
    return shape.clips <= kMaxGrid && shape.depth <= kMaxGrid &&
           static_cast<long long>(shape.clips) * shape.rows <= INT32_MAX;
}

template <class Call>
cudaError_t with_precision(Precision precision, ChannelShape shape, Call call) {
    if (is_empty(shape)) return cudaSuccess;
    if (!is_launchable(shape)) return cudaErrorInvalidValue;
    Limits limits;
    if (const cudaError_t status = read_limits(limits); status != cudaSuccess) return status;
    if (limits.generation < (precision == Precision::fp16 ? 7 : 8)) return cudaErrorNotSupported;
    switch (precision) {
        case Precision::fp16:
            return call(Fp16{}, limits);
        case Precision::bf16:
            return call(Bf16{}, limits);
        case Precision::tf32:
            return call(Tf32{}, limits);
        case Precision::tf32x3:
            return call(Tf32x3{}, limits);
    }
    return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t channel_forward(const void* rows, void* mixed, float* log_sum, ChannelShape shape, Precision precision,
                            cudaStream_t stream) {
    return with_precision(precision, shape, [&](auto element, const Limits& limits) {
        using E = decltype(element);
        using Storage = typename E::Storage;
        const ForwardArgs<E> args{static_cast<const Storage*>(rows),
                                  static_cast<Storage*>(mixed),
                                  log_sum,
                                  shape.rows,
                                  shape.depth,
                                  begin_at<E>(rows, shape.depth, 16),
                                  begin_at<E>(mixed, shape.depth, 2 * sizeof(Storage))};
        return forward(ForwardShapes<E>{}, args, shape, limits, stream);
    });
}

cudaError_t channel_backward(const void* rows, const void* mixed, const float* log_sum, const void* grad_mixed,
                             void* grad_rows, float* scratch, ChannelShape shape, Precision precision,
                             cudaStream_t stream) {
    return with_precision(precision, shape, [&](auto element, const Limits& limits) {
        using E = decltype(element);
        using Storage = typename E::Storage;
        const int all = shape.clips * shape.rows;
        const auto *grad = static_cast<const Storage*>(grad_mixed), *out = static_cast<const Storage*>(mixed);
        dot_kernel<E><<<ceil_div(all, kDotWarps), kDotWarps * kWarp, 0, stream>>>(grad, out, scratch, all, shape.depth);
        if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) return status;
        const BackwardArgs<E> args{static_cast<const Storage*>(rows),
                                   grad,
                                   log_sum,
                                   scratch,
                                   static_cast<Storage*>(grad_rows),
                                   shape.rows,
                                   shape.depth,
                                   begin_at<E>(rows, shape.depth, 16) && begin_at<E>(grad_mixed, shape.depth, 16),
                                   begin_at<E>(grad_rows, shape.depth, 2 * sizeof(Storage))};
        return backward(BackwardShapes<E>{}, args, shape, limits, stream);
    });
}

}  // namespace stcanet::cuda
