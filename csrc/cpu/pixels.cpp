// The loops of a resize, compiled once per instruction set; integers only, so the bits are the same on all of them.
// Nothing from the standard library's templates in this file; see isa.hpp.
#include <cstddef>
#include <cstdint>

#include "isa_table.hpp"

#ifdef __SSE2__
#include <immintrin.h>  // GCC takes bytes apart one by one when vector extensions widen them
#endif

namespace stcanet::STCANET_ISA {
namespace {

constexpr std::size_t kLanes = STCANET_LANES < 8 ? 4 : 8;  // widening bytes has no use for more
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef std::uint8_t Octets __attribute__((vector_size(kLanes)));
typedef std::uint8_t Bytes __attribute__((vector_size(kPixelTile)));

// By memcpy: rows are not aligned.
template <typename Vector>
Vector load(const std::uint8_t* x) {
    Vector value;
    __builtin_memcpy(&value, x, sizeof(Vector));
    return value;
}

std::int32_t clip(std::int32_t value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

#if defined(__AVX2__)
Ints widen(const std::uint8_t* x) {
    return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x)));
}
void narrow(const Ints& x, std::uint8_t* out) {
    const __m128i low = _mm256_castsi256_si128((__m256i)x), high = _mm256_extracti128_si256((__m256i)x, 1);
    const __m128i words = _mm_packs_epi32(low, high), bytes = _mm_packus_epi16(words, words);
    __builtin_memcpy(out, &bytes, kLanes);
}
#elif defined(__SSE2__)
Ints widen(const std::uint8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, sizeof(four));
    const __m128i zero = _mm_setzero_si128();
    return (Ints)_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero), zero);
}
void narrow(const Ints& x, std::uint8_t* out) {
    const __m128i words = _mm_packs_epi32((__m128i)x, (__m128i)x), bytes = _mm_packus_epi16(words, words);
    __builtin_memcpy(out, &bytes, kLanes);
}
#else
Ints widen(const std::uint8_t* x) { return __builtin_convertvector(load<Octets>(x), Ints); }
void narrow(const Ints& x, std::uint8_t* out) {
    for (std::size_t l = 0; l < kLanes; ++l) out[l] = static_cast<std::uint8_t>(clip(x[l]));
}
#endif

// A group of bytes has its sums in registers while the rows pass by.
constexpr std::size_t kVectors = 3 * kPixelTile / kLanes, kGroup = kVectors * kLanes;

void weigh_group(const std::uint8_t* rows, std::ptrdiff_t stride, const std::int32_t* weights, std::size_t taps,
                 std::uint8_t* out) {
    Ints sum[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) sum[v] = Ints{} + (1 << (kWeightBits - 1));
    for (std::size_t k = 0; k < taps; ++k, rows += stride)
        for (std::size_t v = 0; v < kVectors; ++v) sum[v] += widen(rows + v * kLanes) * weights[k];
    for (std::size_t v = 0; v < kVectors; ++v) narrow(sum[v] >> kWeightBits, out + v * kLanes);
}

void weigh(const std::uint8_t* rows, std::ptrdiff_t stride, const std::int32_t* weights, std::size_t taps,
           std::size_t n, std::uint8_t* out) {
    std::size_t i = 0;
    for (; i + kGroup <= n; i += kGroup) weigh_group(rows + i, stride, weights, taps, out + i);
    if (i == n) return;
    if (n >= kGroup) {  // the last group overlaps the one before it and gives the same bytes again
        weigh_group(rows + n - kGroup, stride, weights, taps, out + n - kGroup);
        return;
    }
    for (; i < n; ++i) {
        std::int32_t sum = 1 << (kWeightBits - 1);
        for (std::size_t k = 0; k < taps; ++k)
            sum += rows[static_cast<std::ptrdiff_t>(k) * stride + static_cast<std::ptrdiff_t>(i)] * weights[k];
        out[i] = static_cast<std::uint8_t>(clip(sum >> kWeightBits));
    }
}

#ifdef __clang__
#define STCANET_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define STCANET_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Bytes{__VA_ARGS__})
#endif

// Row i of x is dealt out between its partner's: after four rounds the rows are columns.
void interleave(const Bytes* x, Bytes* y) {
    for (std::size_t i = 0; i < kPixelTile / 2; ++i) {
        const Bytes a = x[i], b = x[i + kPixelTile / 2];
        y[2 * i] = STCANET_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        y[2 * i + 1] = STCANET_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
}

void transpose(const std::uint8_t* const* in, std::uint8_t* const* out) {
    Bytes x[kPixelTile], y[kPixelTile];
    for (std::size_t i = 0; i < kPixelTile; ++i) x[i] = load<Bytes>(in[i]);
    interleave(x, y);
    interleave(y, x);
    interleave(x, y);
    interleave(y, x);
    for (std::size_t i = 0; i < kPixelTile; ++i) __builtin_memcpy(out[i], &x[i], sizeof(Bytes));
}

// ITU-R BT.601, Y in 16..235: R = 1.164 (Y - 16) + 1.596 V, G = ... - 0.813 V - 0.391 U, B = ... + 2.018 U, with 20
// fractional bits, and half of the last place added before the shift.
constexpr std::int32_t kYuvBits = 20, kLuma = 1220542, kRedV = 1673527, kGreenV = -852492, kGreenU = -409993,
                       kBlueU = 2116026;
constexpr std::size_t kChunk = 64;  // even

void yuv_to_rgb(const std::uint8_t* y, const std::uint8_t* u, const std::uint8_t* v, std::size_t step,
                std::size_t first, std::size_t n, std::uint8_t* const* rgb) {
    std::int32_t red[kChunk], green[kChunk], blue[kChunk];
    std::uint8_t luma[kChunk] = {}, bytes[3][kChunk];
    const std::size_t end = first + n;
    for (std::size_t at = first; at < end;) {
        const std::size_t even = at & ~std::size_t{1}, stop = even + kChunk < end ? even + kChunk : end;
        for (std::size_t i = 0; even + i < stop; i += 2) {
            const std::size_t sample = (even + i) / 2 * step;
            const std::int32_t cu = u[sample] - 128, cv = v[sample] - 128, half = 1 << (kYuvBits - 1);
            red[i] = red[i + 1] = half + kRedV * cv;
            green[i] = green[i + 1] = half + kGreenV * cv + kGreenU * cu;
            blue[i] = blue[i + 1] = half + kBlueU * cu;
        }
        __builtin_memcpy(luma + (at - even), y + at, stop - at);
        // All of a chunk, so that the count is known to the compiler; what lies beyond the row is never copied out.
        for (std::size_t i = (stop - even + 1) & ~std::size_t{1}; i < kChunk; ++i) red[i] = green[i] = blue[i] = 0;
        for (std::size_t i = 0; i < kChunk; ++i) {
            const std::int32_t light = (luma[i] < 16 ? 0 : luma[i] - 16) * kLuma;
            bytes[0][i] = static_cast<std::uint8_t>(clip((light + red[i]) >> kYuvBits));
            bytes[1][i] = static_cast<std::uint8_t>(clip((light + green[i]) >> kYuvBits));
            bytes[2][i] = static_cast<std::uint8_t>(clip((light + blue[i]) >> kYuvBits));
        }
        for (std::size_t c = 0; c < 3; ++c) __builtin_memcpy(rgb[c] + (at - first), bytes[c] + (at - even), stop - at);
        at = stop;
    }
}

}  // namespace

void fill_pixels(Kernels& table) { table.resampling = {weigh, transpose, yuv_to_rgb}; }

}  // namespace stcanet::STCANET_ISA
