// `resize_boxes` against the formulas of csrc/README.md, pixel by pixel; all layouts of a frame, boxes at its edges.
#include <cmath>
#include <memory>

#include "kernel_tests.hpp"
#include "stcanet/resize.hpp"

namespace stcanet::kernel_tests {
namespace {

using Bytes = std::vector<std::uint8_t>;

// Packed RGB.
struct Picture {
    std::int64_t height, width;
    Bytes pixels;

    std::uint8_t at(std::int64_t y, std::int64_t x, std::int64_t c) const { return pixels[(y * width + x) * 3 + c]; }
};

Bytes noise(std::size_t size, unsigned seed) {
    std::mt19937 generator(seed);
    Bytes bytes(size);
    // Half of them black or white: the cubic overshoots there.
    for (std::uint8_t& byte : bytes) {
        const auto drawn = generator();
        byte = static_cast<std::uint8_t>(drawn & 256 ? (drawn & 512 ? 255 : 0) : drawn);
    }
    return bytes;
}

std::uint8_t clipped(std::int64_t value) {
    return static_cast<std::uint8_t>(std::min<std::int64_t>(std::max<std::int64_t>(value, 0), 255));
}

// A plane of rows that are `apart` bytes longer than they need to be, in memory of exactly its size, so that reading
// beyond it is seen. Upside down, its stride is negative.
struct Stored {
    Stored(std::int64_t rows, std::int64_t bytes, std::int64_t apart, bool upside_down, unsigned seed)
        : memory(noise(static_cast<std::size_t>(rows * (bytes + apart) - apart), seed)) {
        const std::ptrdiff_t stride = bytes + apart;
        view = upside_down ? Plane{memory.data() + (rows - 1) * stride, -stride} : Plane{memory.data(), stride};
    }

    Bytes memory;
    Plane view;
};

// The box as packed RGB, by the formulas.
Picture crop(const Frame& frame, const Box& box) {
    Picture result{box.y2 - box.y1, box.x2 - box.x1, {}};
    for (std::int64_t y = box.y1; y < box.y2; ++y)
        for (std::int64_t x = box.x1; x < box.x2; ++x) {
            if (frame.pixels != Pixels::yuv) {
                const std::uint8_t* pixel = frame.first.row(y) + 3 * x;
                for (int c = 0; c < 3; ++c) result.pixels.push_back(pixel[frame.pixels == Pixels::bgr ? 2 - c : c]);
                continue;
            }
            const std::size_t sample = static_cast<std::size_t>(x / 2) * frame.step;
            const std::int64_t light = std::max<std::int64_t>(frame.first.row(y)[x] - 16, 0) * 1220542;
            const std::int64_t u = frame.u.row(y / 2)[sample] - 128, v = frame.v.row(y / 2)[sample] - 128;
            const std::int64_t half = 1 << 19;
            for (const std::int64_t colour : {1673527 * v, -852492 * v - 409993 * u, 2116026 * u})
                result.pixels.push_back(clipped((light + colour + half) >> 20));
        }
    return result;
}

double keys_cubic(double x) {
    x = std::abs(x);
    if (x < 1.0) return ((1.5 * x) - 2.5) * x * x + 1.0;
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 : 0.0;
}

// Resizes columns, or rows when `down`.
Picture pass(const Picture& in, std::int64_t to, bool down) {
    const std::int64_t from = down ? in.height : in.width;
    Picture out{down ? to : in.height, down ? in.width : to, {}};
    out.pixels.resize(static_cast<std::size_t>(out.height * out.width * 3));
    const double scale = static_cast<double>(from) / static_cast<double>(to), stretch = std::max(scale, 1.0);
    for (std::int64_t i = 0; i < to; ++i) {
        const double centre = (static_cast<double>(i) + 0.5) * scale;
        const auto first = static_cast<std::int64_t>(std::max(centre - 2.0 * stretch + 0.5, 0.0));
        const auto last = std::min(static_cast<std::int64_t>(centre + 2.0 * stretch + 0.5), from);
        std::vector<double> weights;
        double total = 0.0;
        for (std::int64_t k = first; k < last; ++k) {
            weights.push_back(keys_cubic((static_cast<double>(k) - centre + 0.5) * (1.0 / stretch)));
            total += weights.back();
        }
        for (std::int64_t other = 0; other < (down ? in.width : in.height); ++other)
            for (std::int64_t c = 0; c < 3; ++c) {
                std::int64_t sum = 1 << 21;
                for (std::int64_t k = first; k < last; ++k)
                    sum += std::llround(weights[static_cast<std::size_t>(k - first)] / total * (1 << 22)) *
                           (down ? in.at(k, other, c) : in.at(other, k, c));
                const std::int64_t y = down ? i : other, x = down ? other : i;
                out.pixels[static_cast<std::size_t>((y * out.width + x) * 3 + c)] = clipped(sum >> 22);
            }
    }
    return out;
}

Bytes by_definition(const Frame& frame, const Box& box, std::int64_t height, std::int64_t width) {
    const Picture source = crop(frame, box);
    const std::int64_t lost_rows = source.height - height, lost_columns = source.width - width;
    const bool down_first = lost_rows > 0 && lost_rows > 2 * lost_columns;
    return down_first ? pass(pass(source, height, true), width, false).pixels
                      : pass(pass(source, width, false), height, true).pixels;
}

// Whole frame, odd and even corners, single pixels, rows and columns, up to every edge.
std::vector<Box> boxes_of(std::int64_t height, std::int64_t width) {
    std::vector<Box> boxes{{0, 0, width, height},
                           {0, 0, 1, 1},
                           {width - 1, height - 1, width, height},
                           {0, height - 1, width, height},
                           {width - 1, 0, width, height},
                           {width / 2, 0, width / 2 + 1, height}};
    for (std::int64_t x = 0; x + 3 <= width && x < 3; ++x)
        boxes.push_back({x, std::min(x + 1, height - 1), width - x / 2, height});
    return boxes;
}

void test_frame(const Frame& frame, const Options& options) {
    const std::vector<Box> boxes = boxes_of(frame.height, frame.width);
    constexpr std::int64_t sizes[][2] = {{1, 1}, {5, 3}, {16, 16}, {37, 19}};
    for (const auto& [height, width] : sizes) {
        const auto size = static_cast<std::size_t>(height * width * 3);
        Bytes out(boxes.size() * size);
        resize_boxes(frame, boxes.data(), boxes.size(), static_cast<std::size_t>(height),
                     static_cast<std::size_t>(width), options, out.data());
        for (std::size_t b = 0; b < boxes.size(); ++b) {
            const Bytes expected = by_definition(frame, boxes[b], height, width);
            check(std::equal(expected.begin(), expected.end(), out.data() + b * size), "resize_boxes", options);
        }
    }
    resize_boxes(frame, nullptr, 0, 5, 3, options, nullptr);
    for (const Box& box : boxes) check(is_inside(box, frame), "a box inside", options);
    for (const Box& box : {Box{-1, 0, 1, 1}, Box{0, -1, 1, 1}, Box{0, 0, frame.width + 1, 1},
                           Box{0, 0, 1, frame.height + 1}, Box{0, 0, 0, 1}, Box{0, 0, 1, 0}, Box{1, 0, 0, 1}})
        check(!is_inside(box, frame), "a box outside", options);
}

}  // namespace

void test_resize_boxes(const Options& options) {
    constexpr std::int64_t sizes[][2] = {{1, 1}, {2, 3}, {17, 16}, {61, 35}, {64, 141}};
    for (const auto& [height, width] : sizes)
        for (const bool upside_down : {false, true}) {
            const std::int64_t chroma_height = (height + 1) / 2, chroma_width = (width + 1) / 2;
            const Stored packed(height, 3 * width, 5, upside_down, 1), y(height, width, 3, upside_down, 2);
            const Stored u(chroma_height, chroma_width, 1, upside_down, 3), v(chroma_height, chroma_width, 0, false, 4);
            const Stored uv(chroma_height, 2 * chroma_width, 2, upside_down, 5);
            test_frame({Pixels::rgb, height, width, packed.view, {}, {}}, options);
            test_frame({Pixels::bgr, height, width, packed.view, {}, {}}, options);
            test_frame({Pixels::yuv, height, width, y.view, u.view, v.view}, options);  // I420
            const Plane second{uv.view.data + 1, uv.view.stride};
            test_frame({Pixels::yuv, height, width, y.view, uv.view, second, 2}, options);  // NV12
        }
}

}  // namespace stcanet::kernel_tests
