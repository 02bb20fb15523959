// One wheel for all machines: the inner loops exist once per instruction set, and the processor chooses.
//
// The files of the inner loops (see CMakeLists.txt) are compiled several times, each time into a namespace of their own
// and with other compiler flags. They must not use inline functions or templates of the standard library: the linker
// keeps one copy of those for the whole module, and if it kept the one compiled for AVX-512, the generic code would
// crash on an older processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "stcanet/views.hpp"

namespace stcanet {

// Rows of one packed tile: a multiple of the tile sizes of all products, so one copy serves both sides of a product.
constexpr std::size_t kTileWidth = 48;
constexpr std::size_t kBlock = 8 * kTileWidth;  // rows and columns of a block of products
constexpr std::size_t kMaxSlice = 512;

// Some columns of two sides of packed rows, and the part of a block that they are multiplied to.
struct Slice {
    const void *a, *b;
    std::size_t rows, cols, depth;
    bool diagonal;    // only tiles [kTileWidth, kTileWidth] on and above the diagonal are needed
    bool accumulate;  // add to what is there

    // Rows that are needed where tiles end before this column.
    std::size_t rows_until(std::size_t col) const {
        const std::size_t end = (col + kTileWidth - 1) / kTileWidth * kTileWidth;
        return diagonal && end < rows ? end : rows;
    }
};

enum class Rounding { float32, int16, bfloat16 };
constexpr double kInt16Scale = 32766.0;  // of rows of length 1: 32767 is not exceeded, whatever rounding does

// How rows are packed, and products of packed rows: screen.cpp bounds their error, csrc/README.md has the layouts.
struct Product {
    Rounding rounding;  // of the packed rows
    std::size_t slice;  // columns packed and multiplied at a time, at most kMaxSlice
    std::size_t step;   // columns of a slice are filled up with zeros to a multiple
    std::size_t chain;  // columns after which float32 sums are added up; short chains keep the error small
    std::size_t bytes;  // of a packed column of one row

    // Packs `depth` columns of x * scale - centre as row r of a tile; depth is a multiple of `step`.
    void (*pack)(const float* x, double scale, const double* centre, std::size_t depth, std::size_t r, void* tile);

    // dots [rows, kBlock] in float32; whole tiles are written.
    void (*multiply)(const Slice& slice, float* dots);
};

// One row of a block of products, and what makes a pair worth a look; key = offset - 2 dot, from either side.
struct ScanRow {
    const float* dots;  // [n]
    std::size_t n;
    float near, far;  // the row wants keys (offsets[j] - 2 dots[j]) up to near, and from far on
    float offset;
    const float* offsets;  // [n]
    const float* nears;    // [n] column j wants keys (offset - 2 dots[j]) up to nears[j], and from fars[j] on
    const float* fars;     // [n]
};

constexpr std::size_t kKeyPadding = 16;

// Counting in a row of values by integers that have the order of the values, their keys. There is room for the keys of
// n values rounded up to a multiple of kKeyPadding, and the rest holds the largest integer.
template <typename Real, typename Key>
struct Counting {
    // keys[i] of values[i]; -0 and +0 have the same. Returns whether a value is NaN.
    bool (*order)(const Real* values, std::size_t n, Key* keys);

    // Copies the keys below the limit, in their order, to `out` (room for kKeyPadding more) and returns their number.
    std::size_t (*below)(const Key* keys, std::size_t n, Key limit, Key* out);

    // counts[k] += how many of n keys are below levels[k].
    void (*count)(const Key* keys, std::size_t n, const Key* levels, std::size_t thresholds, std::int64_t* counts);

    // How many of n keys are equal to the level; n as it is, without padding.
    std::int64_t (*equal)(const Key* keys, std::size_t n, Key level);
};

constexpr std::size_t kPixelTile = 16;
constexpr int kWeightBits = 22;  // weights of a resize are integers of this many fractional bits, as in Pillow

// The loops of a resize; nothing is read or written beyond what is said.
struct Resampling {
    // out[i] = sum_k weights[k] * rows[k * stride + i], rounded to the nearest integer and clipped to a byte; n bytes.
    void (*weigh)(const std::uint8_t* rows, std::ptrdiff_t stride, const std::int32_t* weights, std::size_t taps,
                  std::size_t n, std::uint8_t* out);

    // out[j][i] = in[i][j], i and j below kPixelTile.
    void (*transpose)(const std::uint8_t* const* in, std::uint8_t* const* out);

    // Pixels [first, first + n) of a row, by their absolute column, to planes of red, green and blue.
    void (*yuv_to_rgb)(const std::uint8_t* y, const std::uint8_t* u, const std::uint8_t* v, std::size_t step,
                       std::size_t first, std::size_t n, std::uint8_t* const* rgb);
};

// A first look at rows of one array that are not packed, in float32: with rows j and next of it, which may be the same.
// Each sum is of at least kQuickPartials chains.
constexpr std::size_t kQuickQueries = 4, kQuickRows = 2, kQuickPartials = 4;

struct QuickSums {
    float pairs[kQuickRows][kQuickQueries];
    float squares[kQuickRows];  // of the row with itself, where asked for
};

struct Kernels {
    const char* name;
    Product accurate;  // float32
    Product screen;    // the fastest whose error still tells most rows apart; `accurate` where there is none

    // Writes the positions that the row or the column wants to hits (room for n) and returns how many there are.
    std::size_t (*scan)(const ScanRow& row, std::uint32_t* hits);

    // Float64 sums in the fixed order of csrc/README.md: the same bits on every instruction set.
    double (*dot)(const float* x, const float* y, std::size_t n);               // sum x * y
    double (*squared_distance)(const float* x, const float* y, std::size_t n);  // sum (x - y)^2

    // Of 1 or kQuickQueries rows of x, one after another; csrc/README.md bounds the error.
    void (*quick_dots)(const float* x, std::size_t queries, const Features& y, std::size_t j, std::size_t next,
                       bool squares, QuickSums& sums);
    void (*quick_squared_distances)(const float* x, std::size_t queries, const Features& y, std::size_t j,
                                    std::size_t next, QuickSums& sums);

    void (*widen)(const std::uint16_t* x, std::size_t n, float* out);  // float16 to float32, exact; finite values only

    // Columns [first, first + n) of row i as float32: where they lie, or widened into `room`.
    const float* floats(const Features& x, std::size_t i, std::size_t first, std::size_t n, float* room) const {
        if (x.half == nullptr) return x.row(i) + first;
        widen(x.half + i * x.cols + first, n, room);
        return room;
    }

    Counting<float, std::int32_t> of_float;
    Counting<double, std::int64_t> of_double;

    Resampling resampling;
};

// The instruction sets that were compiled in and that this processor has, slowest first; never empty.
std::vector<const Kernels*> supported_kernels();

}  // namespace stcanet
