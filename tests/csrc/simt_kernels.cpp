// The bodies of csrc/cuda as functions of C for the Python tests; tests/cuda/conftest.py compiles this.
#include "channel_shapes.hpp"
#include "part_relation.hpp"
#include "simt.hpp"

namespace {

using namespace stcanet::cuda;

// All blocks of a grid, one after another. The threads of each take turns in an order drawn from the seed.
template <class S, class Body>
void run_grid(int clips, int num_rows, int depth, std::size_t shared_bytes, unsigned seed, Body body) {
    for (int clip = 0; clip < clips; ++clip)
        for (int slice = 0; slice < ceil_div(depth, S::kWidth); ++slice)
            for (int tile = 0; tile < ceil_div(num_rows, S::kRows); ++tile)
                simt::run_block(S::kThreads, shared_bytes, seed++,
                                [&](simt::Thread& exec) { body(exec, Place{tile, slice, clip}); });
}

struct Call {
    const void *rows, *grad_mixed;
    float *log_sum, *grad_dot;
    void* out;
    int clips, num_rows, depth;
    unsigned seed;
};

template <class E, class S>
int forward(const Call& call) {
    using Storage = typename E::Storage;
    if (S::kStages == 2 && call.depth > S::kWidth) return 1;
    const ForwardArgs<E> args{static_cast<const Storage*>(call.rows),
                              static_cast<Storage*>(call.out),
                              call.log_sum,
                              call.num_rows,
                              call.depth,
                              begin_at<E>(call.rows, call.depth, 16),
                              begin_at<E>(call.out, call.depth, 2 * sizeof(Storage))};
    run_grid<S>(call.clips, call.num_rows, call.depth, ForwardMemory<E, S>::kBytes, call.seed,
                [&](simt::Thread& exec, Place place) { channel_forward<simt::Thread, E, S>(exec, args, place); });
    return 0;
}

template <class E, class S>
int backward(const Call& call) {
    using Storage = typename E::Storage;
    const BackwardArgs<E> args{static_cast<const Storage*>(call.rows),
                               static_cast<const Storage*>(call.grad_mixed),
                               call.log_sum,
                               call.grad_dot,
                               static_cast<Storage*>(call.out),
                               call.num_rows,
                               call.depth,
                               begin_at<E>(call.rows, call.depth, 16) && begin_at<E>(call.grad_mixed, call.depth, 16),
                               begin_at<E>(call.out, call.depth, 2 * sizeof(Storage))};
    run_grid<S>(call.clips, call.num_rows, call.depth, BackwardMemory<E, S>::kBytes, call.seed,
                [&](simt::Thread& exec, Place place) { channel_backward<simt::Thread, E, S>(exec, args, place); });
    return 0;
}

// The shape of this place in the list.
template <class E, class S, class... Rest>
int forward_shape(Shapes<S, Rest...>, int index, const Call& call) {
    if (index == 0) return forward<E, S>(call);
    if constexpr (sizeof...(Rest) > 0) return forward_shape<E>(Shapes<Rest...>{}, index - 1, call);
    return 1;
}

template <class E, class S, class... Rest>
int backward_shape(Shapes<S, Rest...>, int index, const Call& call) {
    if (index == 0) return backward<E, S>(call);
    if constexpr (sizeof...(Rest) > 0) return backward_shape<E>(Shapes<Rest...>{}, index - 1, call);
    return 1;
}

template <class Function>
int with_element(int element, Function function) {
    switch (element) {
        case 0:
            return function(Fp16{});
        case 1:
            return function(Bf16{});
        case 2:
            return function(Tf32{});
        case 3:
            return function(Tf32x3{});
    }
    return 1;
}

}  // namespace

extern "C" {

// 0, or 1 where there is no such element, shape, or depth for this shape.
int channel_forward_on_cpu(int element, int shape, const Call* call) {
    return with_element(element,
                        [&](auto e) { return forward_shape<decltype(e)>(ForwardShapes<decltype(e)>{}, shape, *call); });
}

int channel_backward_on_cpu(int element, int shape, const Call* call) {
    return with_element(
        element, [&](auto e) { return backward_shape<decltype(e)>(BackwardShapes<decltype(e)>{}, shape, *call); });
}

void dot_rows_on_cpu(int element, const void* a, const void* b, float* out, int rows, int depth) {
    with_element(element, [&](auto e) {
        using Storage = typename decltype(e)::Storage;
        for (int row = 0; row < rows; ++row)
            simt::run_block(kWarp, 16, 0, [&](simt::Thread& exec) {
                dot_rows(exec, e, static_cast<const Storage*>(a), static_cast<const Storage*>(b), out,
                         static_cast<std::size_t>(row), depth);
            });
        return 0;
    });
}

void relation_forward_on_cpu(int element, const void* nodes, const float* weight, float* out, int clips, int num_nodes,
                             int depth, unsigned seed) {
    constexpr int warps = 2;
    with_element(element, [&](auto e) {
        using E = decltype(e);
        const RelationArgs<E> args{static_cast<const typename E::Storage*>(nodes), weight, num_nodes, depth};
        for (int clip = 0; clip < clips; ++clip)
            for (int i = 0; i < num_nodes; ++i)
                simt::run_block(warps * kWarp, 16, seed++,
                                [&](simt::Thread& exec) { relation_forward(exec, args, out, clip, i, warps); });
        return 0;
    });
}

void relation_backward_on_cpu(int element, const void* nodes, const float* weight, const float* grad, void* grad_nodes,
                              float* grad_weight, int clips, int num_nodes, int depth) {
    with_element(element, [&](auto e) {
        using E = decltype(e);
        using Storage = typename E::Storage;
        const RelationArgs<E> args{static_cast<const Storage*>(nodes), weight, num_nodes, depth};
        for (int clip = 0; clip < clips; ++clip)
            for (int i = 0; i < num_nodes; ++i)
                for (int first = 0; first < depth; first += kWarp)
                    simt::run_block(kWarp, 16, 0, [&](simt::Thread& exec) {
                        relation_backward(exec, args, grad, static_cast<Storage*>(grad_nodes), grad_weight, clip, i,
                                          first + exec.thread());
                    });
        return 0;
    });
}

// 16-bit conversions, to be held against those of torch.
float to_float_on_cpu(int element, unsigned short bits) {
    return element == 0 ? simt::fp16_to_float(bits) : simt::bf16_to_float(bits);
}
unsigned short from_float_on_cpu(int element, float x) {
    return element == 0 ? simt::float_to_fp16(x) : simt::float_to_bf16(x);
}
}
