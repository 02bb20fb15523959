// The float64 sums that define every result, compiled once per instruction set and without contraction to fused
// multiply-adds: the same operations in the same order give the same bits everywhere.
// Nothing from the standard library's templates in this file; see isa.hpp.
#include <cstddef>

#include "halves.hpp"
#include "isa_table.hpp"
#include "row_sums.hpp"

namespace stcanet::STCANET_ISA {
namespace {

// The number of partial sums is part of the definition (reference_distance.py has the same).
struct Float64 {
    using Real = double;
    static constexpr std::size_t kPartials = 16, kLanes = STCANET_LANES / 2;
    typedef float Narrow __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));
    typedef double Wide __attribute__((vector_size(kLanes * sizeof(double))));

    static Wide load(const float* x) { return __builtin_convertvector(*reinterpret_cast<const Narrow*>(x), Wide); }
    static double value(float x) { return x; }
};

double dot(const float* x, const float* y, std::size_t n) {
    double result;
    sum<Times, Float64, 1, 1, false>(x, n, y, n, n, &result);  // products are exact: 24 + 24 bits fit into 53
    return result;
}

double squared_distance(const float* x, const float* y, std::size_t n) {
    double result;
    sum<SquaredDifference, Float64, 1, 1, false>(x, n, y, n, n, &result);
    return result;
}

void widen(const std::uint16_t* x, std::size_t n, float* out) {
    std::size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, widened_8(x + i));
#endif
#ifdef __aarch64__
    for (; i + 4 <= n; i += 4) vst1q_f32(out + i, widened_4(x + i));
#endif
    for (; i < n; ++i) out[i] = widened(x[i]);
}

}  // namespace

void fill_exact(Kernels& table) {
    table.dot = dot;
    table.squared_distance = squared_distance;
    table.widen = widen;
}

}  // namespace stcanet::STCANET_ISA
