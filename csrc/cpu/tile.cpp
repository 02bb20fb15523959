// The float32 inner loops, compiled once per instruction set: STCANET_ISA names the namespace and STCANET_LANES the
// float lanes of a register. Vector extensions instead of intrinsics: one text serves SSE2, AVX2, AVX-512 and NEON.
// Fused multiply-add is welcome here: the error bound of the screen holds with and without it.
// Nothing from the standard library's templates in this file; see isa.hpp.
#include <cstddef>
#include <cstdint>

#include "halves.hpp"
#include "isa_table.hpp"
#include "product_loop.hpp"
#include "row_sums.hpp"

namespace stcanet::STCANET_ISA {
namespace {

constexpr int kLanes = STCANET_LANES;
typedef float Floats __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));
typedef std::int32_t Mask __attribute__((vector_size(kLanes * sizeof(float))));

Floats load(const float* x) { return *reinterpret_cast<const Floats*>(x); }

// Each sum is one chain of `depth` multiply-adds in the order of the columns.
struct Tile {
    using Element = float;
    // Registers: kRows * kVectors sums, kVectors of b, one broadcast of a; of 32 with AVX-512 and 16 otherwise.
    static constexpr std::size_t kRows = kLanes == 16 ? 8 : kLanes == 8 ? 6 : 4;
    static constexpr std::size_t kVectors = kLanes == 16 ? 3 : 2;
    static constexpr std::size_t kCols = kVectors * kLanes, kLane = 1;
    static_assert(kTileWidth % kRows == 0 && kTileWidth % kCols == 0);

    static void multiply(const float* a, const float* b, std::size_t depth, float* c, bool accumulate) {
        Floats sum[kRows][kVectors] = {};
        for (std::size_t p = 0; p < depth; ++p, a += kTileWidth, b += kTileWidth) {
            Floats column[kVectors];
#pragma GCC unroll 3
            for (std::size_t v = 0; v < kVectors; ++v) column[v] = load(b + v * kLanes);
#pragma GCC unroll 8
            for (std::size_t i = 0; i < kRows; ++i)
#pragma GCC unroll 3
                for (std::size_t v = 0; v < kVectors; ++v) sum[i][v] += a[i] * column[v];
        }
#pragma GCC unroll 8
        for (std::size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 3
            for (std::size_t v = 0; v < kVectors; ++v) {
                Floats* out = reinterpret_cast<Floats*>(c + i * kBlock + v * kLanes);
                *out = accumulate ? *out + sum[i][v] : sum[i][v];
            }
        }
    }
};

void pack(const float* x, double scale, const double* centre, std::size_t depth, std::size_t r, void* tile) {
    auto* out = static_cast<float*>(tile) + r;
    for (std::size_t p = 0; p < depth; ++p) out[p * kTileWidth] = static_cast<float>(x[p] * scale - centre[p]);
}

bool any(const Mask& mask) {
    std::uint64_t parts[sizeof(Mask) / 8], all = 0;
    __builtin_memcpy(parts, &mask, sizeof(Mask));
    for (const std::uint64_t part : parts) all |= part;
    return all != 0;
}

bool wanted(const ScanRow& row, std::size_t j) {
    const float from_row = row.offsets[j] - 2.0F * row.dots[j], from_column = row.offset - 2.0F * row.dots[j];
    return from_row <= row.near || from_row >= row.far || from_column <= row.nears[j] || from_column >= row.fars[j];
}

// Hits are rare: several vectors are passed over with one branch, since asking a vector costs more than comparing it.
constexpr int kGroup = 4;

std::size_t scan(const ScanRow& row, std::uint32_t* hits) {
    std::size_t count = 0, i = 0;
    for (; i + kGroup * kLanes <= row.n; i += kGroup * kLanes) {
        Mask found = {};
#pragma GCC unroll 4
        for (int v = 0; v < kGroup; ++v) {
            const std::size_t j = i + v * kLanes;
            const Floats dot = load(row.dots + j);
            const Floats from_row = load(row.offsets + j) - 2.0F * dot, from_column = row.offset - 2.0F * dot;
            found |= (from_row <= row.near) | (from_row >= row.far) | (from_column <= load(row.nears + j)) |
                     (from_column >= load(row.fars + j));
        }
        if (!any(found)) continue;
        for (std::size_t j = i; j < i + kGroup * kLanes; ++j)
            if (wanted(row, j)) hits[count++] = static_cast<std::uint32_t>(j);
    }
    for (; i < row.n; ++i)
        if (wanted(row, i)) hits[count++] = static_cast<std::uint32_t>(i);
    return count;
}

template <std::size_t kVectors>
struct Float32 {
    using Real = float;
    static constexpr std::size_t kPartials = kVectors * kLanes;
    static_assert(kPartials >= kQuickPartials);
    typedef float Wide __attribute__((vector_size(kLanes * sizeof(float))));

    static Wide load(const float* x) { return *reinterpret_cast<const Floats*>(x); }
    static Wide load(const std::uint16_t* x) {
#if STCANET_LANES == 16
        // All lanes, by a mask: GCC 12 warns of what its plain form leaves undefined.
        const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
        return reinterpret_cast<Wide>(_mm512_maskz_cvtph_ps(0xFFFF, halves));
#elif STCANET_LANES == 8
        return reinterpret_cast<Wide>(widened_8(x));
#elif defined(__aarch64__)
        return reinterpret_cast<Wide>(widened_4(x));
#else
        Wide wide;
        for (std::size_t l = 0; l < kLanes; ++l) wide[l] = widened(x[l]);
        return wide;
#endif
    }
    static float value(float x) { return x; }
    static float value(std::uint16_t x) { return widened(x); }
};

// Of kX queries with kY rows: enough sums, of enough vectors, that their chains hide the latency of an addition.
template <typename Term, std::size_t kX, std::size_t kY, bool kSquares, typename Element>
void sum_rows(const float* x, const Element* y, std::size_t step, std::size_t n, QuickSums& sums, std::size_t first) {
    constexpr std::size_t width = kX + kSquares;
    float found[kY][width];
    sum<Term, Float32<kX == 1 ? 4 : 1>, kX, kY, kSquares>(x, n, y, step, n, &found[0][0]);
    for (std::size_t b = 0; b < kY; ++b) {
        for (std::size_t a = 0; a < kX; ++a) sums.pairs[first + b][a] = found[b][a];
        if (kSquares) sums.squares[first + b] = found[b][width - 1];
    }
}

template <typename Term, bool kSquares>
void quick(const float* x, std::size_t queries, const Features& y, std::size_t j, std::size_t next, QuickSums& sums) {
    const std::size_t n = y.cols, step = (next - j) * n;
    const auto look = [&](const auto* rows) {
        if (queries == 1)
            for (std::size_t b = 0; b < kQuickRows; ++b)  // one after another: reading them is nearly all the time
                sum_rows<Term, 1, 1, kSquares>(x, rows + j * n + b * step, step, n, sums, b);
        else
            sum_rows<Term, kQuickQueries, kQuickRows, kSquares>(x, rows + j * n, step, n, sums, 0);
    };
    y.half != nullptr ? look(y.half) : look(y.data);
}

void quick_dots(const float* x, std::size_t queries, const Features& y, std::size_t j, std::size_t next, bool squares,
                QuickSums& sums) {
    squares ? quick<Times, true>(x, queries, y, j, next, sums) : quick<Times, false>(x, queries, y, j, next, sums);
}

}  // namespace

void fill_tile(Kernels& table) {
    table.accurate = {Rounding::float32, 128, 1, 128, sizeof(float), pack, multiply_tiles<Tile>};
    table.screen = table.accurate;
    table.scan = scan;
    table.quick_dots = quick_dots;
    table.quick_squared_distances = quick<SquaredDifference, false>;
}

}  // namespace stcanet::STCANET_ISA
