// Crop and resize of many boxes of one frame, bit-identical to Pillow's antialiased bicubic.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stcanet/distance.hpp"
#include "stcanet/parallel.hpp"

namespace stcanet {

enum class Pixels { rgb, bgr, yuv };

// Row r starts at data + r * stride; a stride may be negative.
struct Plane {
    const std::uint8_t* data = nullptr;
    std::ptrdiff_t stride = 0;

    const std::uint8_t* row(std::int64_t r) const { return data + static_cast<std::ptrdiff_t>(r) * stride; }
};

// A picture as cameras and decoders give it; nothing is copied.
struct Frame {
    Pixels pixels;
    std::int64_t height, width;
    Plane first;           // packed RGB or BGR, 3 bytes a pixel; or Y
    Plane u, v;            // one sample for 2 x 2 pixels
    std::size_t step = 1;  // bytes from one chroma sample to the next: 1 in I420, 2 in NV12
};

// Pixels [y1, y2) x [x1, x2).
struct Box {
    std::int64_t x1, y1, x2, y2;
};

// Whether a box has a pixel and all of its pixels are of the frame, as `resize_boxes` needs it.
inline bool is_inside(const Box& box, const Frame& frame) {
    return 0 <= box.x1 && box.x1 < box.x2 && box.x2 <= frame.width && 0 <= box.y1 && box.y1 < box.y2 &&
           box.y2 <= frame.height;
}

// out [count, height, width, 3], RGB. Formulas and numerics: csrc/README.md.
void resize_boxes(const Frame& frame, const Box* boxes, std::size_t count, std::size_t height, std::size_t width,
                  Options options, std::uint8_t* out, const Watch& watch = {});

}  // namespace stcanet
