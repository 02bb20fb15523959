// Matrix products of a warp: operands in shared memory, 16 × 16 sums in registers, tensor-core instructions.
//
// Kernel bodies are templates over Exec, which is one thread of a block: csrc/cuda/device.hpp on a GPU,
// tests/csrc/simt.hpp on the CPU, where all threads of a block run in turns and in random order. Both have
//   thread()  sync()  exp(x)  shuffle_xor(x, mask)  shared()          of the block and the warp
//   load_matrices(f, address)  load_matrices_across(f, address)       ldmatrix.x4 without and with .trans
//   multiply(E, sums, a, b0, b1)  round_tf32(x)                       mma.m16n8; cvt.rna.tf32
//   copy(to, from, inside)  commit()  wait<N>()                       16 bytes to shared memory in the background
//   to_float(E, bits)  from_float(E, x)                               16-bit conversions, to nearest even
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define STCANET_DEVICE __device__ __forceinline__
#define STCANET_BOTH __host__ __device__ __forceinline__
#define STCANET_UNROLL _Pragma("unroll")
#else
#define STCANET_DEVICE inline
#define STCANET_BOTH inline
#define STCANET_UNROLL
#endif

namespace stcanet::cuda {

STCANET_BOTH constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
STCANET_BOTH constexpr int smaller(int a, int b) { return a < b ? a : b; }

constexpr int kWarp = 32;
constexpr int kSide = 16;  // rows and columns of a square of sums

// What is multiplied. kStep: depth of one square product; four 32-bit registers hold 16 rows of it, in every type.
struct Bf16 {
    using Storage = std::uint16_t;
    static constexpr int kStep = 16;
};
struct Fp16 {
    using Storage = std::uint16_t;
    static constexpr int kStep = 16;
};
struct Tf32 {  // float32 rounded to 11 bits
    using Storage = float;
    static constexpr int kStep = 8;
};
struct Tf32x3 {  // float32 as the sum of two such numbers; three products, the fourth is below float32
    using Storage = float;
    static constexpr int kStep = 8;
};

template <class E>
constexpr bool is_wide = sizeof(typename E::Storage) == 4;

// Rows in shared memory. 16 bytes more than a multiple of 128 from row to row: eight rows meet all banks.
template <class E, int Cols>
struct Tile {
    using Storage = typename E::Storage;
    static constexpr int kPiece = 16 / sizeof(Storage);
    static constexpr int kStride = Cols + kPiece;
    static_assert(Cols * sizeof(Storage) % 64 == 0, "a row is a multiple of 64 bytes");
    static constexpr int bytes(int rows) { return rows * kStride * static_cast<int>(sizeof(Storage)); }

    Storage* data;

    STCANET_DEVICE Storage* at(int row, int col) const { return data + row * kStride + col; }
};

template <class Exec, class E>
STCANET_DEVICE float load_value(Exec& exec, E, const typename E::Storage* from) {
    if constexpr (is_wide<E>)
        return *from;
    else
        return exec.to_float(E{}, *from);
}

template <class Exec, class E>
STCANET_DEVICE void store_value(Exec& exec, E, typename E::Storage* to, float value) {
    if constexpr (is_wide<E>)
        *to = value;
    else
        *to = exec.from_float(E{}, value);
}

// Two neighbours in a row at once; `to` begins at a multiple of their size.
template <class Exec, class E>
STCANET_DEVICE void store_pair(Exec& exec, E, typename E::Storage* to, float first, float second) {
    using Storage = typename E::Storage;
    struct alignas(2 * sizeof(Storage)) Pair {
        Storage first, second;
    } pair;
    store_value(exec, E{}, &pair.first, first);
    store_value(exec, E{}, &pair.second, second);
    *reinterpret_cast<Pair*>(to) = pair;
}

// Four registers of a lane, with g = lane / 4 and t = lane % 4. 16 rows by kStep columns:
//   16 bits: (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..), two neighbours each
//   32 bits: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)
// That is the left operand of mma.m16n8; as the right one, registers 0 and 2 hold the rows 0 to 7 (columns of the
// sums), 1 and 3 the rows 8 to 15.
struct Fragment {
    std::uint32_t bits[4];
};

STCANET_DEVICE std::uint32_t float_bits(float value) {
    union {
        float f;
        std::uint32_t u;
    } both = {value};
    return both.u;
}

STCANET_DEVICE float bits_float(std::uint32_t bits) {
    union {
        std::uint32_t u;
        float f;
    } both = {bits};
    return both.f;
}

// ldmatrix moves 16 bytes of each row, whatever they mean.
template <class Exec, class E, int Cols>
STCANET_DEVICE Fragment load_rows(Exec& exec, Tile<E, Cols> tile, int row, int k) {
    Fragment f;
    const int lane = exec.thread() % kWarp;
    exec.load_matrices(f.bits, tile.at(row + lane % 16, k + Tile<E, Cols>::kPiece * (lane / 16)));
    return f;
}

// The same registers as load_rows of the transpose: kStep rows from k on, 16 columns from `col` on.
template <class Exec, class E, int Cols>
STCANET_DEVICE Fragment load_across(Exec& exec, Tile<E, Cols> tile, int k, int col) {
    Fragment f;
    const int lane = exec.thread() % kWarp;
    if constexpr (is_wide<E>) {
        const int g = lane / 4, t = lane % 4;
        STCANET_UNROLL
        for (int r = 0; r < 4; ++r) f.bits[r] = float_bits(*tile.at(k + t + 4 * (r / 2), col + g + 8 * (r % 2)));
    } else {
        const int matrix = lane / 8;
        exec.load_matrices_across(f.bits, tile.at(k + lane % 8 + 8 * (matrix / 2), col + 8 * (matrix % 2)));
    }
    return f;
}

// 16 × 16 sums of a warp: element e of a lane is at (row(e), col(e)); that of an even e has the next one on its right.
struct Square {
    float sums[8];

    STCANET_DEVICE static int row(int lane, int e) { return lane / 4 + 8 * (e / 2 % 2); }
    STCANET_DEVICE static int col(int lane, int e) { return 2 * (lane % 4) + e % 2 + 8 * (e / 4); }
};

template <class Exec, class E>
STCANET_DEVICE void multiply_once(Exec& exec, E, Square& c, const Fragment& a, const Fragment& b) {
    exec.multiply(E{}, c.sums, a.bits, b.bits[0], b.bits[2]);
    exec.multiply(E{}, c.sums + 4, a.bits, b.bits[1], b.bits[3]);
}

template <class Exec>
STCANET_DEVICE Fragment round_fragment(Exec& exec, const Fragment& f, Fragment* rest) {
    Fragment rounded;
    STCANET_UNROLL
    for (int r = 0; r < 4; ++r) {
        const float whole = bits_float(f.bits[r]);
        rounded.bits[r] = exec.round_tf32(whole);
        if (rest != nullptr) rest->bits[r] = exec.round_tf32(whole - bits_float(rounded.bits[r]));
    }
    return rounded;
}

// c += a bᵀ for 16 × 16 sums and one step of depth.
template <class Exec, class E>
STCANET_DEVICE void multiply(Exec& exec, E, Square& c, const Fragment& a, const Fragment& b) {
    multiply_once(exec, E{}, c, a, b);
}

template <class Exec>
STCANET_DEVICE void multiply(Exec& exec, Tf32, Square& c, const Fragment& a, const Fragment& b) {
    multiply_once(exec, Tf32{}, c, round_fragment(exec, a, nullptr), round_fragment(exec, b, nullptr));
}

template <class Exec>
STCANET_DEVICE void multiply(Exec& exec, Tf32x3, Square& c, const Fragment& a, const Fragment& b) {
    Fragment a_rest, b_rest;
    const Fragment a_high = round_fragment(exec, a, &a_rest), b_high = round_fragment(exec, b, &b_rest);
    multiply_once(exec, Tf32{}, c, a_rest, b_high);  // the small products first
    multiply_once(exec, Tf32{}, c, a_high, b_rest);
    multiply_once(exec, Tf32{}, c, a_high, b_high);
}

// Whether the rows of a matrix [num_rows, depth] begin at multiples of some bytes.
template <class E>
bool begin_at(const void* matrix, int depth, std::size_t bytes) {
    return reinterpret_cast<std::uintptr_t>(matrix) % bytes == 0 && depth * sizeof(typename E::Storage) % bytes == 0;
}

// Matrix [num_rows, depth] in global memory. `vectors`: its rows begin at multiples of 16 bytes.
template <class E>
struct Rows {
    const typename E::Storage* data;
    int num_rows, depth;
    bool vectors;
};

// Begins to copy rows [row, row + count), columns [col, col + Cols); zero outside of the matrix. All threads of the
// block call it; the tile is there after commit, wait and sync.
template <class Exec, class E, int Cols>
STCANET_DEVICE void load_tile(Exec& exec, Tile<E, Cols> tile, const Rows<E>& from, int row, int col, int count,
                              int threads) {
    using Storage = typename E::Storage;
    constexpr int kPiece = Tile<E, Cols>::kPiece;
    if (from.vectors) {
        for (int i = exec.thread(); i < count * (Cols / kPiece); i += threads) {
            const int r = i / (Cols / kPiece), c = i % (Cols / kPiece) * kPiece;
            const bool inside = row + r < from.num_rows && col + c < from.depth;
            const std::size_t offset = inside ? static_cast<std::size_t>(row + r) * from.depth + col + c : 0;
            exec.copy(tile.at(r, c), from.data + offset, inside);
        }
    } else {
        for (int i = exec.thread(); i < count * Cols; i += threads) {
            const int r = i / Cols, c = i % Cols;
            const bool inside = row + r < from.num_rows && col + c < from.depth;
            *tile.at(r, c) = inside ? from.data[static_cast<std::size_t>(row + r) * from.depth + col + c] : Storage{};
        }
    }
}

}  // namespace stcanet::cuda
