// Bodies of the channel-attention kernels, for the GPU and for the tests on the CPU; formulas in csrc/README.md.
//
// A block owns kRows rows of one clip, and kWidth of their columns, and walks over all rows of the clip, kCols at a
// time. Depth beyond kWidth is walked in chunks, the block's own chunk last, so that it lies in shared memory for the
// second product; every slice of columns then computes the logits anew.
#pragma once

#include <cmath>
#include <cstddef>
#include <type_traits>

#include "fragments.hpp"

namespace stcanet::cuda {

// Where a block stands.
struct Place {
    int tile, slice, clip;
};

// kStages = 2 loads the next columns while it multiplies; for depths up to kWidth only.
template <int Rows_, int Cols_, int Width_, int Warps_, int Stages_ = 1>
struct Shape {
    static constexpr int kRows = Rows_, kCols = Cols_, kWidth = Width_, kWarps = Warps_, kStages = Stages_;
    static constexpr int kThreads = kWarps * kWarp;
    static constexpr int kSquares = (kRows / kSide) * (kCols / kSide);              // of the logits
    static constexpr int kPer = kSquares < kWarps ? 1 : kSquares / kWarps;          // of these for a warp
    static constexpr int kDown = kRows / kSide, kAcross = kWidth / kWarps / kSide;  // squares of a warp's output
    static constexpr int kLanes = kThreads / kRows;  // threads that share a row of logits
    static_assert(kSquares <= kWarps || (kCols / kSide) % kPer == 0, "a warp stays in one row of squares");
    static_assert(kAcross >= 1 && kThreads % kRows == 0 && kLanes <= kWarp && kWarp % kLanes == 0);
};

// The squares of the logits that a warp computes.
template <class S>
struct Share {
    int row, col;
    bool any;

    STCANET_DEVICE explicit Share(int warp)
        : row(warp * S::kPer / (S::kCols / kSide) * kSide),
          col(warp * S::kPer % (S::kCols / kSide) * kSide),
          any(warp * S::kPer < S::kSquares) {}
};

// sums += a · b. Tensor cores cut off, where float32 rounds, each time that they add to a sum: where float32 accuracy
// is wanted, every step begins at zero, and what it comes to is added as float32 is.
template <class Exec, class E>
STCANET_DEVICE void add_products(Exec& exec, E, Square& sums, const Fragment& a, const Fragment& b) {
    if constexpr (std::is_same_v<E, Tf32x3>) {
        Square step = {};
        multiply(exec, E{}, step, a, b);
        STCANET_UNROLL
        for (int e = 0; e < 8; ++e) sums.sums[e] += step.sums[e];
    } else {
        multiply(exec, E{}, sums, a, b);
    }
}

// mixed += weights · columns, for all rows of the block and the columns of this warp.
template <class Exec, class E, class S>
STCANET_DEVICE void add_mixed(Exec& exec, Square (&mixed)[S::kDown][S::kAcross], Tile<E, S::kCols> weights,
                              Tile<E, S::kWidth> columns, int width) {
    const int first = exec.thread() / kWarp * S::kAcross * kSide;
    for (int k = 0; k < S::kCols; k += E::kStep) {
        Fragment a[S::kDown];
        STCANET_UNROLL
        for (int d = 0; d < S::kDown; ++d) a[d] = load_rows(exec, weights, d * kSide, k);
        STCANET_UNROLL
        for (int x = 0; x < S::kAcross; ++x) {
            if (first + x * kSide >= width) continue;
            const Fragment b = load_across(exec, columns, k, first + x * kSide);
            STCANET_UNROLL
            for (int d = 0; d < S::kDown; ++d) add_products(exec, E{}, mixed[d][x], a[d], b);
        }
    }
}

// Writes the block's rows and columns of [R, P], two values at a time where `pairs` begin at multiples of their size;
// row r of the block is multiplied by scales[r] where there are scales.
template <class Exec, class E, class S>
STCANET_DEVICE void store_mixed(Exec& exec, const Square (&mixed)[S::kDown][S::kAcross], const float* scales,
                                typename E::Storage* out, int num_rows, int depth, bool pairs, Place place) {
    const int lane = exec.thread() % kWarp;
    const int first = place.slice * S::kWidth + exec.thread() / kWarp * S::kAcross * kSide;
    STCANET_UNROLL
    for (int d = 0; d < S::kDown; ++d) STCANET_UNROLL
    for (int x = 0; x < S::kAcross; ++x) STCANET_UNROLL
    for (int e = 0; e < 8; e += 2) {
        const int r = d * kSide + Square::row(lane, e), row = place.tile * S::kRows + r;
        const int col = first + x * kSide + Square::col(lane, e);
        if (row >= num_rows || col >= depth) continue;
        const float scale = scales != nullptr ? scales[r] : 1.0F;
        const float left = mixed[d][x].sums[e] * scale, right = mixed[d][x].sums[e + 1] * scale;
        typename E::Storage* const to = out + static_cast<std::size_t>(row) * depth + col;
        if (pairs) {
            store_pair(exec, E{}, to, left, right);
        } else {
            store_value(exec, E{}, to, left);
            if (col + 1 < depth) store_value(exec, E{}, to + 1, right);
        }
    }
}

// The largest or the sum over the neighbouring threads that share a row.
template <int Lanes, class Exec>
STCANET_DEVICE float row_max(Exec& exec, float value) {
    for (int mask = Lanes / 2; mask > 0; mask /= 2) value = fmaxf(value, exec.shuffle_xor(value, mask));
    return value;
}

template <int Lanes, class Exec>
STCANET_DEVICE float row_sum(Exec& exec, float value) {
    for (int mask = Lanes / 2; mask > 0; mask /= 2) value += exec.shuffle_xor(value, mask);
    return value;
}

template <class E>
struct ForwardArgs {
    const typename E::Storage* rows;  // G [B, R, P]
    typename E::Storage* mixed;       // Y [B, R, P]
    float* log_sum;                   // L [B, R]
    int num_rows, depth;
    bool vectors, pairs;
};

template <class E, class S>
struct ForwardMemory {
    static constexpr int kColBytes = Tile<E, S::kWidth>::bytes(S::kCols);
    static constexpr int kColTiles = Tile<E, S::kWidth>::bytes(S::kRows);
    static constexpr int kLogits = kColTiles + S::kStages * kColBytes;
    static constexpr int kWeights = kLogits + Tile<Tf32, S::kCols>::bytes(S::kRows);
    static constexpr int kScales = kWeights + Tile<E, S::kCols>::bytes(S::kRows);
    static constexpr int kBytes = kScales + S::kRows * 4;
};

// Largest logit so far of a thread's row, and the sum of exponentials below it.
struct Running {
    float top, sum;
};

// Logits to weights exp(logit - top), and the factor that what was mixed before must be multiplied by.
template <class Exec, class E, class S>
STCANET_DEVICE void soften(Exec& exec, Running& state, Tile<Tf32, S::kCols> logits, Tile<E, S::kCols> weights,
                           float* scales, int valid) {
    const int row = exec.thread() / S::kLanes, lane = exec.thread() % S::kLanes;
    float top = state.top;
    for (int c = lane; c < valid; c += S::kLanes) top = fmaxf(top, *logits.at(row, c));
    top = row_max<S::kLanes>(exec, top);
    float sum = 0.0F;
    for (int c = lane; c < S::kCols; c += S::kLanes) {
        const float weight = c < valid ? exec.exp(*logits.at(row, c) - top) : 0.0F;
        store_value(exec, E{}, weights.at(row, c), weight);
        sum += weight;
    }
    const float scale = exec.exp(state.top - top);  // 0 at first: every tile has a valid column, so top is finite
    state = {top, state.sum * scale + row_sum<S::kLanes>(exec, sum)};
    if (lane == 0) scales[row] = scale;
}

// Y = softmax(G Gᵀ) G and L = log Σ exp(G Gᵀ), for one block of rows.
template <class Exec, class E, class S>
STCANET_DEVICE void channel_forward(Exec& exec, const ForwardArgs<E>& args, Place place) {
    using Storage = typename E::Storage;
    using Memory = ForwardMemory<E, S>;
    char* const shared = exec.shared();
    const Tile<E, S::kWidth> own{reinterpret_cast<Storage*>(shared)};
    const Tile<Tf32, S::kCols> logits{reinterpret_cast<float*>(shared + Memory::kLogits)};
    const Tile<E, S::kCols> weights{reinterpret_cast<Storage*>(shared + Memory::kWeights)};
    float* const scales = reinterpret_cast<float*>(shared + Memory::kScales);
    const auto stage = [&](int i) {
        return Tile<E, S::kWidth>{reinterpret_cast<Storage*>(shared + Memory::kColTiles + i * Memory::kColBytes)};
    };

    const int num_rows = args.num_rows, depth = args.depth, lane = exec.thread() % kWarp;
    const std::size_t clip = static_cast<std::size_t>(place.clip) * num_rows;
    const Rows<E> from{args.rows + clip * depth, num_rows, depth, args.vectors};
    const int tiles = ceil_div(num_rows, S::kCols), chunks = ceil_div(depth, S::kWidth);
    const Share<S> share(exec.thread() / kWarp);

    Square mixed[S::kDown][S::kAcross] = {};
    Running state = {-INFINITY, 0.0F};
    if (chunks == 1) load_tile(exec, own, from, place.tile * S::kRows, 0, S::kRows, S::kThreads);
    if (S::kStages == 2) {
        load_tile(exec, stage(0), from, 0, 0, S::kCols, S::kThreads);
        exec.commit();
    }
    for (int j = 0; j < tiles; ++j) {
        const Tile<E, S::kWidth> columns = stage(j % S::kStages);
        Square sums[S::kPer] = {};
        for (int c = 1; c <= chunks; ++c) {
            const int p = (place.slice + c) % chunks * S::kWidth;
            if (S::kStages == 2) {
                if (j + 1 < tiles)
                    load_tile(exec, stage((j + 1) % 2), from, (j + 1) * S::kCols, 0, S::kCols, S::kThreads);
            } else {
                if (chunks > 1) load_tile(exec, own, from, place.tile * S::kRows, p, S::kRows, S::kThreads);
                load_tile(exec, columns, from, j * S::kCols, p, S::kCols, S::kThreads);
            }
            exec.commit();
            exec.template wait<S::kStages - 1>();
            exec.sync();
            const int deep = share.any ? smaller(S::kWidth, depth - p) : 0;
            for (int k = 0; k < deep; k += E::kStep) {
                const Fragment a = load_rows(exec, own, share.row, k);
                STCANET_UNROLL
                for (int i = 0; i < S::kPer; ++i)
                    add_products(exec, E{}, sums[i], a, load_rows(exec, columns, share.col + i * kSide, k));
            }
            if (c < chunks) exec.sync();  // before the next chunk overwrites this one
        }
        if (share.any) STCANET_UNROLL
        for (int i = 0; i < S::kPer; ++i) STCANET_UNROLL
        for (int e = 0; e < 8; ++e)
            *logits.at(share.row + Square::row(lane, e), share.col + i * kSide + Square::col(lane, e)) =
                sums[i].sums[e];
        exec.sync();
        soften<Exec, E, S>(exec, state, logits, weights, scales, smaller(S::kCols, num_rows - j * S::kCols));
        exec.sync();
        STCANET_UNROLL
        for (int d = 0; d < S::kDown; ++d) STCANET_UNROLL
        for (int e = 0; e < 8; ++e) {
            const float scale = scales[d * kSide + Square::row(lane, e)];
            STCANET_UNROLL
            for (int x = 0; x < S::kAcross; ++x) mixed[d][x].sums[e] *= scale;
        }
        add_mixed<Exec, E, S>(exec, mixed, weights, columns, depth - place.slice * S::kWidth);
        exec.sync();  // before columns, weights and scales are overwritten
    }
    const int row = exec.thread() / S::kLanes;
    if (exec.thread() % S::kLanes == 0) {
        scales[row] = 1.0F / state.sum;
        const int global = place.tile * S::kRows + row;
        if (place.slice == 0 && global < num_rows) args.log_sum[clip + global] = state.top + logf(state.sum);
    }
    exec.sync();
    store_mixed<Exec, E, S>(exec, mixed, scales, args.mixed + clip * depth, num_rows, depth, args.pairs, place);
}

template <class E>
struct BackwardArgs {
    const typename E::Storage* rows;        // G [B, R, P]
    const typename E::Storage* grad_mixed;  // dY [B, R, P]
    const float* log_sum;                   // L [B, R]
    const float* grad_dot;                  // δ [B, R], the dot product of dY and Y of each row
    typename E::Storage* grad_rows;         // dG [B, R, P]
    int num_rows, depth;
    bool vectors, pairs;  // rows that are read begin at multiples of 16 bytes; those that are written, of two values
};

template <class E, class S>
struct BackwardMemory {
    static constexpr int kOwnGrad = Tile<E, S::kWidth>::bytes(S::kRows);
    static constexpr int kColTile = 2 * kOwnGrad;
    static constexpr int kColGrad = kColTile + Tile<E, S::kWidth>::bytes(S::kCols);
    static constexpr int kOfRows = kColGrad + Tile<E, S::kWidth>::bytes(S::kCols);
    static constexpr int kOfGrad = kOfRows + Tile<E, S::kCols>::bytes(S::kRows);
    static constexpr int kVectors = kOfGrad + Tile<E, S::kCols>::bytes(S::kRows);
    static constexpr int kBytes = kVectors + 2 * (S::kRows + S::kCols) * 4;
};

// L and δ of `count` rows to shared memory. Rows beyond the last get an infinite L: their weights are zero.
template <class Exec, class E>
STCANET_DEVICE void load_sums(Exec& exec, const BackwardArgs<E>& args, std::size_t clip, int first, int count,
                              float* log_sum, float* grad_dot) {
    if (exec.thread() >= count) return;
    const bool inside = first + exec.thread() < args.num_rows;
    log_sum[exec.thread()] = inside ? args.log_sum[clip + first + exec.thread()] : INFINITY;
    grad_dot[exec.thread()] = inside ? args.grad_dot[clip + first + exec.thread()] : 0.0F;
}

// dG = Σ_j (dS_ij + dS_ji) G_j + F_ji dY_j, for one block of rows i: the symmetric logits give both halves.
template <class Exec, class E, class S>
STCANET_DEVICE void channel_backward(Exec& exec, const BackwardArgs<E>& args, Place place) {
    using Storage = typename E::Storage;
    using Memory = BackwardMemory<E, S>;
    static_assert(S::kStages == 1 && S::kRows <= S::kThreads && S::kCols <= S::kThreads);
    char* const shared = exec.shared();
    const auto wide = [&](int offset) { return Tile<E, S::kWidth>{reinterpret_cast<Storage*>(shared + offset)}; };
    const Tile<E, S::kWidth> own = wide(0), own_grad = wide(Memory::kOwnGrad);
    const Tile<E, S::kWidth> columns = wide(Memory::kColTile), column_grad = wide(Memory::kColGrad);
    const Tile<E, S::kCols> of_rows{reinterpret_cast<Storage*>(shared + Memory::kOfRows)};  // what multiplies G_j
    const Tile<E, S::kCols> of_grad{reinterpret_cast<Storage*>(shared + Memory::kOfGrad)};  // what multiplies dY_j
    float* const own_sum = reinterpret_cast<float*>(shared + Memory::kVectors);
    float *const own_dot = own_sum + S::kRows, *const sum = own_dot + S::kRows, *const dot = sum + S::kCols;

    const int num_rows = args.num_rows, depth = args.depth, lane = exec.thread() % kWarp;
    const std::size_t clip = static_cast<std::size_t>(place.clip) * num_rows;
    const Rows<E> from{args.rows + clip * depth, num_rows, depth, args.vectors};
    const Rows<E> grad_from{args.grad_mixed + clip * depth, num_rows, depth, args.vectors};
    const int tiles = ceil_div(num_rows, S::kCols), chunks = ceil_div(depth, S::kWidth);
    const int first = place.tile * S::kRows;
    const Share<S> share(exec.thread() / kWarp);

    Square mixed[S::kDown][S::kAcross] = {};
    load_sums(exec, args, clip, first, S::kRows, own_sum, own_dot);
    for (int j = 0; j < tiles; ++j) {
        Square logits[S::kPer] = {}, forth[S::kPer] = {}, back[S::kPer] = {};  // G_i·G_j, dY_i·G_j, G_i·dY_j
        load_sums(exec, args, clip, j * S::kCols, S::kCols, sum, dot);
        for (int c = 1; c <= chunks; ++c) {
            const int p = (place.slice + c) % chunks * S::kWidth;
            if (chunks > 1 || j == 0) {
                load_tile(exec, own, from, first, p, S::kRows, S::kThreads);
                load_tile(exec, own_grad, grad_from, first, p, S::kRows, S::kThreads);
            }
            load_tile(exec, columns, from, j * S::kCols, p, S::kCols, S::kThreads);
            load_tile(exec, column_grad, grad_from, j * S::kCols, p, S::kCols, S::kThreads);
            exec.commit();
            exec.template wait<0>();
            exec.sync();
            const int deep = share.any ? smaller(S::kWidth, depth - p) : 0;
            for (int k = 0; k < deep; k += E::kStep) {
                const Fragment a = load_rows(exec, own, share.row, k);
                const Fragment a_grad = load_rows(exec, own_grad, share.row, k);
                STCANET_UNROLL
                for (int i = 0; i < S::kPer; ++i) {
                    const Fragment b = load_rows(exec, columns, share.col + i * kSide, k);
                    add_products(exec, E{}, logits[i], a, b);
                    add_products(exec, E{}, forth[i], a_grad, b);
                    add_products(exec, E{}, back[i], a, load_rows(exec, column_grad, share.col + i * kSide, k));
                }
            }
            if (c < chunks) exec.sync();
        }
        if (share.any) STCANET_UNROLL
        for (int i = 0; i < S::kPer; ++i) STCANET_UNROLL
        for (int e = 0; e < 8; e += 2) {
            const int r = share.row + Square::row(lane, e), q = share.col + i * kSide + Square::col(lane, e);
            float both[2], of_ji[2];
            STCANET_UNROLL
            for (int n = 0; n < 2; ++n) {
                const float ij = exec.exp(logits[i].sums[e + n] - own_sum[r]);  // F_ij
                of_ji[n] = exec.exp(logits[i].sums[e + n] - sum[q + n]);        // F_ji
                both[n] = ij * (forth[i].sums[e + n] - own_dot[r]) + of_ji[n] * (back[i].sums[e + n] - dot[q + n]);
            }
            store_pair(exec, E{}, of_rows.at(r, q), both[0], both[1]);
            store_pair(exec, E{}, of_grad.at(r, q), of_ji[0], of_ji[1]);
        }
        exec.sync();
        const int width = depth - place.slice * S::kWidth;
        add_mixed<Exec, E, S>(exec, mixed, of_rows, columns, width);
        add_mixed<Exec, E, S>(exec, mixed, of_grad, column_grad, width);
        exec.sync();  // before columns, weights and sums are overwritten
    }
    store_mixed<Exec, E, S>(exec, mixed, nullptr, args.grad_rows + clip * depth, num_rows, depth, args.pairs, place);
}

// A value as the products of E see it.
template <class Exec, class E>
STCANET_DEVICE float as_multiplied(Exec& exec, E, float value) {
    if constexpr (std::is_same_v<E, Tf32>) return bits_float(exec.round_tf32(value));
    return value;
}

// δ [rows] = dY · Y of two matrices [rows, depth], one warp for each row. dY is rounded as for the products dY · G that
// δ is taken from: they differ by little, and what rounding moves them by has to cancel.
template <class Exec, class E>
STCANET_DEVICE void dot_rows(Exec& exec, E, const typename E::Storage* grad, const typename E::Storage* mixed,
                             float* out, std::size_t row, int depth) {
    float sum = 0.0F;
    for (int p = exec.thread() % kWarp; p < depth; p += kWarp)
        sum += as_multiplied(exec, E{}, load_value(exec, E{}, grad + row * depth + p)) *
               load_value(exec, E{}, mixed + row * depth + p);
    sum = row_sum<kWarp>(exec, sum);
    if (exec.thread() % kWarp == 0) out[row] = sum;
}

}  // namespace stcanet::cuda
