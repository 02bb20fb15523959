// Sums over the columns of two rows, once per instruction set: everything is in the unnamed namespace of its includer.
#pragma once

#include <cstddef>

namespace stcanet::STCANET_ISA {
namespace {

struct Times {
    static constexpr std::size_t kSums = 1;

    template <typename T>
    static T term(const T& x, const T& y, std::size_t) {
        return x * y;
    }
};

struct ProductAndSquare {
    static constexpr std::size_t kSums = 2;

    template <typename T>
    static T term(const T& x, const T& y, std::size_t which) {
        return which == 0 ? x * y : y * y;
    }
};

struct SquaredDifference {
    static constexpr std::size_t kSums = 1;

    template <typename T>
    static T term(const T& x, const T& y, std::size_t) {
        const T difference = x - y;
        return difference * difference;
    }
};

// Sums has Real, what is summed; kPartials; Wide, a vector of some of these; and loads such a vector, or one value, of
// a row. The order is fixed: partial sum l takes the elements l, l + kPartials, l + 2 kPartials, ... in turn; then the
// partial sums are folded in halves, l + (l + kPartials / 2), ...
template <typename Term, typename Sums, typename Element>
void sum(const float* x, const Element* y, std::size_t n, typename Sums::Real* sums) {
    using Real = typename Sums::Real;
    using Wide = typename Sums::Wide;
    constexpr std::size_t partials = Sums::kPartials, lanes = sizeof(Wide) / sizeof(Real), vectors = partials / lanes;
    Wide wide[Term::kSums][vectors] = {};
    std::size_t i = 0;
    for (; i + partials <= n; i += partials) {
#pragma GCC unroll 8
        for (std::size_t v = 0; v < vectors; ++v) {
            const Wide xs = Sums::load(x + i + v * lanes), ys = Sums::load(y + i + v * lanes);
#pragma GCC unroll 2
            for (std::size_t s = 0; s < Term::kSums; ++s) wide[s][v] += Term::template term<Wide>(xs, ys, s);
        }
    }
    Real partial[Term::kSums][partials];
    __builtin_memcpy(partial, wide, sizeof(partial));
    for (std::size_t s = 0; s < Term::kSums; ++s) {
        for (std::size_t l = 0; i + l < n; ++l)
            partial[s][l] += Term::template term<Real>(Sums::value(x[i + l]), Sums::value(y[i + l]), s);
        for (std::size_t half = partials / 2; half > 0; half /= 2)
            for (std::size_t l = 0; l < half; ++l) partial[s][l] += partial[s][l + half];
        sums[s] = partial[s][0];
    }
}

}  // namespace
}  // namespace stcanet::STCANET_ISA
