// float16 to float32, exact, once per instruction set: everything is in the unnamed namespace of its includer.
#pragma once

#include <cstdint>

#ifdef __F16C__
#include <immintrin.h>
#endif
#ifdef __aarch64__
#include <arm_neon.h>
#endif

namespace stcanet::STCANET_ISA {
namespace {

// Finite values only. Subnormal halves are built from normal floats, so that flushing subnormals to zero, which others
// may have switched on for the thread, does not matter.
inline float widened(std::uint16_t x) {
    constexpr std::uint32_t bias = 112u << 23, smallest = 113u << 23;  // 2^-15 * 2 = 2^-14: the smallest normal half
    const std::uint32_t magnitude = (x & 0x7FFFu) << 13, sign = (x & 0x8000u) << 16;
    union Bits {
        std::uint32_t integer;
        float value;
    } normal{magnitude + bias}, subnormal{magnitude + smallest}, unit{smallest};
    subnormal.value -= unit.value;
    normal.integer = (magnitude < (1u << 23) ? subnormal.integer : normal.integer) | sign;
    return normal.value;
}

// The instructions do not heed that switch.
#ifdef __F16C__
inline __m256 widened_8(const std::uint16_t* x) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
#endif
#ifdef __aarch64__
inline float32x4_t widened_4(const std::uint16_t* x) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x))); }
#endif

}  // namespace
}  // namespace stcanet::STCANET_ISA
