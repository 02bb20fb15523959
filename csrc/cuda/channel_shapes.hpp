// The block shapes of the channel attention, best first; the launcher takes the first that suits the depth and fits the
// GPU. Shared memory of a block: 64 KiB on Turing, 99 KiB on Ada and consumer Ampere, 163 KiB on A100, 227 KiB on
// Hopper.
#pragma once

#include <type_traits>

#include "channel_attention.hpp"

namespace stcanet::cuda {

template <class... S>
struct Shapes {};

// The last of each list: up to 128 columns, or any depth in slices of 128. Fits every GPU.
using NarrowForward = Shape<64, 64, 128, 4>;
using NarrowBackward = Shape<64, 32, 128, 4>;
using Narrow32 = Shape<32, 32, 128, 4>;

template <class E>
using ForwardShapes = std::conditional_t<is_wide<E>,
                                         Shapes<Shape<32, 32, 512, 4>,  // 138 KiB
                                                Narrow32>,
                                         Shapes<Shape<64, 64, 512, 8, 2>,  // 222 KiB: Hopper
                                                Shape<32, 32, 512, 4>,     // 72 KiB: two on an A100, one on Ada
                                                NarrowForward>>;

template <class E>
using BackwardShapes = std::conditional_t<is_wide<E>,
                                          Shapes<Shape<32, 16, 512, 4>,  // 198 KiB: Hopper
                                                 Narrow32>,
                                          Shapes<Shape<64, 32, 512, 8>,  // 205 KiB: Hopper
                                                 Shape<32, 32, 512, 4>,  // 135 KiB
                                                 NarrowBackward>>;

// Whether a shape is meant for this depth: wide ones not for what fits the narrow one, and none for more than one pass.
template <class S>
constexpr bool suits(int depth) {
    return depth > 128 && depth <= S::kWidth;
}

}  // namespace stcanet::cuda
