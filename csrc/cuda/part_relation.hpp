// Bodies of the part-relation kernels, for the GPU and for the tests on the CPU; formulas in csrc/README.md.
#pragma once

#include "fragments.hpp"

namespace stcanet::cuda {

template <class E>
struct RelationArgs {
    const typename E::Storage* nodes;  // x [B, M, D]
    const float* weight;               // w [D]
    int num_nodes, depth;
};

// One row of the symmetric e_ij = Σ_d w_d |x_id − x_jd| of a clip: a warp sums a pair i < j and writes it to both
// places.
template <class Exec, class E>
STCANET_DEVICE void relation_forward(Exec& exec, const RelationArgs<E>& args, float* out, int clip, int i, int warps) {
    const int lane = exec.thread() % kWarp, warp = exec.thread() / kWarp, num_nodes = args.num_nodes;
    const std::size_t depth = args.depth;
    const typename E::Storage* const nodes = args.nodes + clip * depth * num_nodes;
    float* const pairs = out + static_cast<std::size_t>(clip) * num_nodes * num_nodes;
    if (exec.thread() == 0) pairs[static_cast<std::size_t>(i) * num_nodes + i] = 0.0F;
    for (int j = i + 1 + warp; j < num_nodes; j += warps) {
        float sum = 0.0F;
        for (int d = lane; d < args.depth; d += kWarp) {
            const float difference =
                load_value(exec, E{}, nodes + i * depth + d) - load_value(exec, E{}, nodes + j * depth + d);
            sum += args.weight[d] * fabsf(difference);
        }
        for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += exec.shuffle_xor(sum, mask);
        if (lane > 0) continue;
        pairs[static_cast<std::size_t>(i) * num_nodes + j] = sum;
        pairs[static_cast<std::size_t>(j) * num_nodes + i] = sum;
    }
}

// One value of dx_id = w_d Σ_j (dE_ij + dE_ji) sign(x_id − x_jd), and its node's part Σ_j dE_ij |x_id − x_jd| of dw_d.
template <class Exec, class E>
STCANET_DEVICE void relation_backward(Exec& exec, const RelationArgs<E>& args, const float* grad,
                                      typename E::Storage* grad_nodes, float* grad_weight, int clip, int i, int d) {
    if (d >= args.depth) return;
    const int num_nodes = args.num_nodes;
    const std::size_t first = static_cast<std::size_t>(clip) * num_nodes, depth = args.depth;
    const float* const pairs = grad + first * num_nodes;
    const float own = load_value(exec, E{}, args.nodes + (first + i) * depth + d);
    float sum = 0.0F, of_weight = 0.0F;
    for (int j = 0; j < num_nodes; ++j) {
        const float difference = own - load_value(exec, E{}, args.nodes + (first + j) * depth + d);
        const float forth = pairs[static_cast<std::size_t>(i) * num_nodes + j];
        const float both = forth + pairs[static_cast<std::size_t>(j) * num_nodes + i];
        sum += difference > 0.0F ? both : difference < 0.0F ? -both : 0.0F;
        of_weight += forth * fabsf(difference);
    }
    store_value(exec, E{}, grad_nodes + (first + i) * depth + d, args.weight[d] * sum);
    grad_weight[(first + i) * depth + d] = of_weight;
}

}  // namespace stcanet::cuda
