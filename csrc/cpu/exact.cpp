// The float64 sums that define every result, compiled once per instruction set and without contraction to fused
// multiply-adds: the same operations in the same order give the same bits everywhere.
// Nothing from the standard library's templates in this file; see isa.hpp.
#include <cstddef>

#include "isa_table.hpp"

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace stcanet::STCANET_ISA {
namespace {

// The fixed order: partial sum l takes the elements l, l + 16, l + 32, ... in turn; then the partial sums are folded in
// halves, l + (l + 8), l + (l + 4), ... The number is part of the definition (reference_distance.py has the same).
constexpr std::size_t kPartials = 16;
constexpr std::size_t kWide = STCANET_LANES / 2;  // double lanes of a register
constexpr std::size_t kVectors = kPartials / kWide;

typedef float Floats __attribute__((vector_size(kWide * sizeof(float)), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(kWide * sizeof(double))));
typedef double LooseDoubles __attribute__((vector_size(kWide * sizeof(double)), aligned(8), may_alias));

struct Product {
    template <typename T>
    static T term(const T& x, const T& y) {
        return x * y;  // exact: 24 + 24 bits fit into 53
    }
};

struct SquaredDifference {
    template <typename T>
    static T term(const T& x, const T& y) {
        const T difference = x - y;
        return difference * difference;
    }
};

double fold(double* partial) {
    for (std::size_t half = kPartials / 2; half > 0; half /= 2)
        for (std::size_t l = 0; l < half; ++l) partial[l] += partial[l + half];
    return partial[0];
}

template <typename Term>
double sum(const float* x, const float* y, std::size_t n) {
    Doubles wide[kVectors] = {};
    std::size_t i = 0;
    for (; i + kPartials <= n; i += kPartials) {
#pragma GCC unroll 8
        for (std::size_t v = 0; v < kVectors; ++v) {
            const Floats xf = *reinterpret_cast<const Floats*>(x + i + v * kWide);
            const Floats yf = *reinterpret_cast<const Floats*>(y + i + v * kWide);
            wide[v] += Term::template term<Doubles>(__builtin_convertvector(xf, Doubles),
                                                    __builtin_convertvector(yf, Doubles));
        }
    }
    double partial[kPartials];
    for (std::size_t v = 0; v < kVectors; ++v) *reinterpret_cast<LooseDoubles*>(partial + v * kWide) = wide[v];
    for (std::size_t l = 0; i < n; ++i, ++l)
        partial[l] += Term::template term<double>(static_cast<double>(x[i]), static_cast<double>(y[i]));
    return fold(partial);
}

double dot(const float* x, const float* y, std::size_t n) { return sum<Product>(x, y, n); }

double squared_distance(const float* x, const float* y, std::size_t n) { return sum<SquaredDifference>(x, y, n); }

Dots dots(const float* x, const float* y, std::size_t n) {
    Doubles products[kVectors] = {}, squares[kVectors] = {};
    std::size_t i = 0;
    for (; i + kPartials <= n; i += kPartials) {
#pragma GCC unroll 8
        for (std::size_t v = 0; v < kVectors; ++v) {
            const Doubles xd = __builtin_convertvector(*reinterpret_cast<const Floats*>(x + i + v * kWide), Doubles);
            const Doubles yd = __builtin_convertvector(*reinterpret_cast<const Floats*>(y + i + v * kWide), Doubles);
            products[v] += xd * yd;
            squares[v] += yd * yd;
        }
    }
    double product[kPartials], square[kPartials];
    for (std::size_t v = 0; v < kVectors; ++v) {
        *reinterpret_cast<LooseDoubles*>(product + v * kWide) = products[v];
        *reinterpret_cast<LooseDoubles*>(square + v * kWide) = squares[v];
    }
    for (std::size_t l = 0; i < n; ++i, ++l) {
        const double xd = x[i], yd = y[i];
        product[l] += xd * yd;
        square[l] += yd * yd;
    }
    return {fold(product), fold(square)};
}

// Subnormal halves are built from normal floats, so that flushing subnormals to zero, which others may have switched on
// for the thread, does not matter.
void widen(const std::uint16_t* x, std::size_t n, float* out) {
    constexpr std::uint32_t bias = 112u << 23, smallest = 113u << 23;  // 2^-15 * 2 = 2^-14: the smallest normal half
    std::size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)  // the instruction does not heed that switch
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
#endif
    for (; i < n; ++i) {
        const std::uint32_t magnitude = (x[i] & 0x7FFFu) << 13, sign = (x[i] & 0x8000u) << 16;
        union Bits {
            std::uint32_t integer;
            float value;
        } normal{magnitude + bias}, subnormal{magnitude + smallest}, unit{smallest};
        subnormal.value -= unit.value;
        normal.integer = (magnitude < (1u << 23) ? subnormal.integer : normal.integer) | sign;
        out[i] = normal.value;
    }
}

}  // namespace

void fill_exact(Kernels& table) {
    table.dot = dot;
    table.squared_distance = squared_distance;
    table.dots = dots;
    table.widen = widen;
}

}  // namespace stcanet::STCANET_ISA
