// Sums over the columns of two rows, once per instruction set: everything is in the unnamed namespace of its includer.
#pragma once

#include <cstddef>

namespace stcanet::STCANET_ISA {
namespace {

struct Times {
    template <typename T>
    static T term(const T& x, const T& y) {
        return x * y;
    }
};

struct SquaredDifference {
    template <typename T>
    static T term(const T& x, const T& y) {
        const T difference = x - y;
        return difference * difference;
    }
};

// Sums of each of kX rows of x with each of kY rows of y, and with kSquares of each row of y with itself, at the end:
// [kY, kX + kSquares]. Rows are x_step and y_step elements apart.
// Sums has Real, what is summed; kPartials; Wide, a vector of some of these; and loads such a vector, or one value, of
// a row. The order is fixed: partial sum l takes the elements l, l + kPartials, l + 2 kPartials, ... in turn; then the
// partial sums are folded in halves, l + (l + kPartials / 2), ...
template <typename Term, typename Sums, std::size_t kX, std::size_t kY, bool kSquares, typename Element>
void sum(const float* x, std::size_t x_step, const Element* y, std::size_t y_step, std::size_t n,
         typename Sums::Real* sums) {
    using Real = typename Sums::Real;
    using Wide = typename Sums::Wide;
    constexpr std::size_t partials = Sums::kPartials, lanes = sizeof(Wide) / sizeof(Real), vectors = partials / lanes;
    Wide wide[kY][kX + kSquares][vectors] = {};
    std::size_t i = 0;
    for (; i + partials <= n; i += partials) {
#pragma GCC unroll 8
        for (std::size_t v = 0; v < vectors; ++v) {
            Wide ys[kY];
#pragma GCC unroll 4
            for (std::size_t b = 0; b < kY; ++b) {
                ys[b] = Sums::load(y + b * y_step + i + v * lanes);
                if constexpr (kSquares) wide[b][kX][v] += ys[b] * ys[b];
            }
#pragma GCC unroll 4
            for (std::size_t a = 0; a < kX; ++a) {
                const Wide xs = Sums::load(x + a * x_step + i + v * lanes);
#pragma GCC unroll 4
                for (std::size_t b = 0; b < kY; ++b) wide[b][a][v] += Term::template term<Wide>(xs, ys[b]);
            }
        }
    }
    for (std::size_t b = 0; b < kY; ++b)
        for (std::size_t a = 0; a < kX + kSquares; ++a) {
            Wide* parts = wide[b][a];
            if (i < n) {
                Real partial[partials];
                __builtin_memcpy(partial, parts, sizeof(partial));
                for (std::size_t l = 0; i + l < n; ++l) {
                    const Real last = Sums::value(y[b * y_step + i + l]);
                    partial[l] +=
                        a < kX ? Term::template term<Real>(Sums::value(x[a * x_step + i + l]), last) : last * last;
                }
                __builtin_memcpy(parts, partial, sizeof(partial));
            }
            for (std::size_t half = vectors / 2; half > 0; half /= 2)
                for (std::size_t v = 0; v < half; ++v) parts[v] += parts[v + half];
            Real lane[lanes];
            __builtin_memcpy(lane, parts, sizeof(lane));
            for (std::size_t half = lanes / 2; half > 0; half /= 2)
                for (std::size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
            sums[b * (kX + kSquares) + a] = lane[0];
        }
}

}  // namespace
}  // namespace stcanet::STCANET_ISA
