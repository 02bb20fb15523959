#include "stcanet/resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "stcanet/parallel.hpp"

namespace stcanet {
namespace {

constexpr std::size_t kColors = 3, kPixel = kColors * kPixelTile;  // bytes of one column of a turned tile

std::size_t padded(std::size_t n) { return (n + kPixelTile - 1) / kPixelTile * kPixelTile; }

// Keys' cubic with a = -1/2. The order of the operations is Pillow's: the last bit of a weight depends on it.
double bicubic(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

// Which inputs each output is made of, and how much of each: output i is inputs [first[i], first[i] + taps[i]).
struct Weights {
    Weights(std::size_t in, std::size_t out) : first(out), taps(out) {
        const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0);
        const double support = 2.0 * stretch, inverse = 1.0 / stretch;
        width = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
        values.resize(out * width);
        std::vector<double> exact(width);
        for (std::size_t i = 0; i < out; ++i) {
            const double center = (static_cast<double>(i) + 0.5) * scale;
            first[i] = static_cast<std::size_t>(std::max(center - support + 0.5, 0.0));
            taps[i] = std::min(static_cast<std::size_t>(center + support + 0.5), in) - first[i];
            double sum = 0.0;
            for (std::size_t k = 0; k < taps[i]; ++k)
                sum += exact[k] = bicubic((static_cast<double>(first[i] + k) - center + 0.5) * inverse);
            for (std::size_t k = 0; k < taps[i]; ++k) {
                const double weight = (sum != 0.0 ? exact[k] / sum : exact[k]) * (1 << kWeightBits);
                values[i * width + k] = static_cast<std::int32_t>(weight < 0.0 ? weight - 0.5 : weight + 0.5);
            }
        }
    }

    const std::int32_t* of(std::size_t i) const { return values.data() + i * width; }

    std::size_t width;  // most taps
    std::vector<std::size_t> first, taps;
    std::vector<std::int32_t> values;
};

// Bytes that are written before they are read.
class Scratch {
  public:
    explicit Scratch(std::size_t size) : bytes_(new std::uint8_t[size]) {}
    std::uint8_t* at(std::size_t offset) const { return bytes_.get() + offset; }

  private:
    std::unique_ptr<std::uint8_t[]> bytes_;
};

// Turns columns of a tile of rows: column j of `rows` becomes the kPixelTile bytes at out + places[j] * kPixelTile.
void turn(const Resampling& loops, const std::uint8_t* const* rows, std::size_t n, const std::uint32_t* places,
          std::uint8_t* out) {
    if (n < kPixelTile) {
        for (std::size_t j = 0; j < n; ++j)
            for (std::size_t r = 0; r < kPixelTile; ++r) out[places[j] * kPixelTile + r] = rows[r][j];
        return;
    }
    const std::uint8_t* in[kPixelTile];
    std::uint8_t* to[kPixelTile];
    for (std::size_t j = 0; j < n; j += kPixelTile) {
        const std::size_t at = std::min(j, n - kPixelTile);  // the last overlaps the one before it
        for (std::size_t i = 0; i < kPixelTile; ++i) {
            in[i] = rows[i] + at;
            to[i] = out + places[at + i] * kPixelTile;
        }
        loops.transpose(in, to);
    }
}

// A picture of packed pixels, or of planes of red, green and blue `distance` bytes apart.
struct Picture {
    const std::uint8_t* data;
    std::ptrdiff_t stride;
    std::size_t bytes;  // of a row of one plane
    std::size_t planes = 1, distance = 0;

    const std::uint8_t* row(std::size_t r, std::size_t plane) const {
        return data + plane * distance + static_cast<std::ptrdiff_t>(r) * stride;
    }
};

// One box. Each pass is rounded to bytes, as Pillow's are. The pass across works on tiles of rows that are turned, so
// that both are sums of contiguous bytes.
class BoxResize {
  public:
    BoxResize(const Frame& frame, const Box& box, std::size_t height, std::size_t width, const Resampling& loops)
        : frame_(frame),
          box_(box),
          in_height_(static_cast<std::size_t>(box.y2 - box.y1)),
          in_width_(static_cast<std::size_t>(box.x2 - box.x1)),
          height_(height),
          row_bytes_(width * kColors),
          loops_(loops),
          across_(in_width_, width),
          down_(in_height_, height) {}

    void run(std::uint8_t* out) const {
        const Scratch planes(frame_.pixels == Pixels::yuv ? in_height_ * in_width_ * kColors : 0);
        const Picture source = frame_.pixels == Pixels::yuv ? convert(planes.at(0)) : packed();
        if (down_first()) {
            const std::size_t size = height_ * source.bytes;
            const Scratch middle(size * source.planes);
            for (std::size_t plane = 0; plane < source.planes; ++plane) reduce(source, plane, middle.at(plane * size));
            const auto stride = static_cast<std::ptrdiff_t>(source.bytes);
            narrow({middle.at(0), stride, source.bytes, source.planes, size}, height_, places(), out);
        } else {
            const Scratch middle(in_height_ * row_bytes_);
            narrow(source, in_height_, places(), middle.at(0));
            reduce({middle.at(0), static_cast<std::ptrdiff_t>(row_bytes_), row_bytes_}, 0, out);
        }
    }

  private:
    // The order of Pillow 13; before, the pass across came first.
    bool down_first() const {
        const auto lost_rows = static_cast<std::ptrdiff_t>(in_height_) - static_cast<std::ptrdiff_t>(height_);
        const auto lost_columns =
            static_cast<std::ptrdiff_t>(in_width_) - static_cast<std::ptrdiff_t>(row_bytes_ / kColors);
        return lost_rows > 0 && lost_rows > 2 * lost_columns;
    }

    Picture packed() const {
        return {frame_.first.row(box_.y1) + box_.x1 * static_cast<std::int64_t>(kColors), frame_.first.stride,
                in_width_ * kColors};
    }

    // The box as planes [3, in_height, in_width].
    Picture convert(std::uint8_t* planes) const {
        const std::size_t size = in_height_ * in_width_;
        for (std::size_t r = 0; r < in_height_; ++r) {
            const std::int64_t y = box_.y1 + static_cast<std::int64_t>(r);
            std::uint8_t* const to = planes + r * in_width_;
            std::uint8_t* const rgb[kColors] = {to, to + size, to + 2 * size};
            loops_.yuv_to_rgb(frame_.first.row(y), frame_.u.row(y / 2), frame_.v.row(y / 2), frame_.step,
                              static_cast<std::size_t>(box_.x1), in_width_, rgb);
        }
        return {planes, static_cast<std::ptrdiff_t>(in_width_), in_width_, kColors, size};
    }

    // Where the bytes of a row, plane after plane, go in a row of RGB.
    std::vector<std::uint32_t> places() const {
        std::vector<std::uint32_t> result(in_width_ * kColors);
        for (std::size_t x = 0; x < in_width_; ++x)
            for (std::size_t c = 0; c < kColors; ++c) {
                const std::size_t from = frame_.pixels == Pixels::yuv ? c * in_width_ + x : x * kColors + c;
                const std::size_t color = frame_.pixels == Pixels::bgr ? kColors - 1 - c : c;
                result[from] = static_cast<std::uint32_t>(x * kColors + color);
            }
        return result;
    }

    // The pass down: one plane to `height` rows without gaps.
    void reduce(const Picture& source, std::size_t plane, std::uint8_t* out) const {
        for (std::size_t i = 0; i < height_; ++i)
            loops_.weigh(source.row(down_.first[i], plane), source.stride, down_.of(i), down_.taps[i], source.bytes,
                         out + i * source.bytes);
    }

    // The pass across: rows of pixels that are `width` wide, RGB, without gaps.
    void narrow(const Picture& source, std::size_t rows, const std::vector<std::uint32_t>& places,
                std::uint8_t* out) const {
        const std::size_t width = row_bytes_ / kColors, room = padded(row_bytes_) * kPixelTile;
        const Scratch turned(in_width_ * kPixel), narrowed(room), spare(room);
        for (std::size_t top = 0; top < rows; top += kPixelTile) {
            for (std::size_t plane = 0; plane < source.planes; ++plane) {
                const std::uint8_t* tile[kPixelTile];  // where the picture ends, its last row again
                for (std::size_t r = 0; r < kPixelTile; ++r) tile[r] = source.row(std::min(top + r, rows - 1), plane);
                turn(loops_, tile, source.bytes, places.data() + plane * source.bytes, turned.at(0));
            }
            for (std::size_t i = 0; i < width; ++i)
                loops_.weigh(turned.at(across_.first[i] * kPixel), kPixel, across_.of(i), across_.taps[i], kPixel,
                             narrowed.at(i * kPixel));
            turn_back(narrowed, spare, std::min(kPixelTile, rows - top), out + top * row_bytes_);
        }
    }

    // The first `rows` rows of a turned tile.
    void turn_back(const Scratch& turned, const Scratch& spare, std::size_t rows, std::uint8_t* out) const {
        const std::size_t stride = padded(row_bytes_);
        const bool whole = stride == row_bytes_ && rows == kPixelTile;
        std::uint8_t* const target = whole ? out : spare.at(0);
        for (std::size_t j = 0; j < stride; j += kPixelTile) {
            const std::uint8_t* in[kPixelTile];
            std::uint8_t* to[kPixelTile];
            for (std::size_t i = 0; i < kPixelTile; ++i) {
                in[i] = turned.at((j + i) * kPixelTile);
                to[i] = target + i * stride + j;
            }
            loops_.transpose(in, to);
        }
        if (!whole)
            for (std::size_t r = 0; r < rows; ++r) std::memcpy(out + r * row_bytes_, target + r * stride, row_bytes_);
    }

    const Frame& frame_;
    const Box& box_;
    std::size_t in_height_, in_width_, height_, row_bytes_;
    const Resampling& loops_;
    Weights across_, down_;
};

}  // namespace

void resize_boxes(const Frame& frame, const Box* boxes, std::size_t count, std::size_t height, std::size_t width,
                  Options options, std::uint8_t* out, const Watch& watch) {
    const auto resize = [&](std::size_t i) {
        BoxResize(frame, boxes[i], height, width, options.kernels->resampling).run(out + i * height * width * kColors);
    };
    parallel_for(count, options.threads, resize, watch);
}

}  // namespace stcanet
