// The preprocessing part of stcanet_runtime._kernels.
#include <pybind11/stl.h>

#include "arrays.hpp"
#include "stcanet/resize.hpp"

namespace stcanet::bindings {
namespace {

using ByteArray = py::array_t<std::uint8_t>;

// Rows may lie anywhere; inside of a row the bytes must be `inner` (innermost last) apart.
Plane plane(const ByteArray& array, std::initializer_list<py::ssize_t> shape, std::initializer_list<py::ssize_t> inner,
            const char* name) {
    bool fits = array.ndim() == static_cast<py::ssize_t>(shape.size());
    for (std::size_t i = 0; fits && i < shape.size(); ++i) {
        fits = array.shape(static_cast<py::ssize_t>(i)) == shape.begin()[i];
        // NumPy gives any stride to an axis of length 1.
        if (i > 0 && shape.begin()[i] > 1)
            fits = fits && array.strides(static_cast<py::ssize_t>(i)) == inner.begin()[i - 1];
    }
    if (!fits) throw py::value_error(std::string(name) + " has an unexpected shape or layout: " + shape_of(array));
    return {array.data(), array.strides(0)};
}

Frame as_frame(const std::vector<ByteArray>& planes, const std::string& format) {
    if (planes.empty() || planes[0].ndim() < 2) throw py::value_error("a frame has at least one plane [H, W]");
    const ByteArray& first = planes[0];
    const py::ssize_t h = first.shape(0), w = first.shape(1), ch = (h + 1) / 2, cw = (w + 1) / 2;
    Frame frame{Pixels::yuv, h, w, {}, {}, {}};
    if ((format == "rgb" || format == "bgr") && planes.size() == 1) {
        frame.pixels = format == "rgb" ? Pixels::rgb : Pixels::bgr;
        frame.first = plane(first, {h, w, 3}, {3, 1}, "the frame");
    } else if (format == "nv12" && planes.size() == 2) {
        frame.first = plane(first, {h, w}, {1}, "Y");
        frame.u = plane(planes[1], {ch, cw, 2}, {2, 1}, "UV");
        frame.v = {frame.u.data + 1, frame.u.stride};
        frame.step = 2;
    } else if (format == "i420" && planes.size() == 3) {
        frame.first = plane(first, {h, w}, {1}, "Y");
        frame.u = plane(planes[1], {ch, cw}, {1}, "U");
        frame.v = plane(planes[2], {ch, cw}, {1}, "V");
    } else {
        throw py::value_error("format '" + format + "' does not go with " + std::to_string(planes.size()) + " planes");
    }
    return frame;
}

const Box* as_boxes(const IndexArray& boxes, const Frame& frame) {
    static_assert(sizeof(Box) == 4 * sizeof(std::int64_t));
    if (boxes.ndim() != 2 || boxes.shape(1) != 4) throw py::value_error("boxes must be [N, 4], got " + shape_of(boxes));
    const auto* begin = reinterpret_cast<const Box*>(boxes.data());
    for (const Box* b = begin; b != begin + boxes.shape(0); ++b)
        if (!is_inside(*b, frame)) throw py::value_error("a box is empty or not inside the frame");
    return begin;
}

py::array_t<std::uint8_t> resize_boxes(const std::vector<ByteArray>& planes, const std::string& format,
                                       const IndexArray& boxes, std::size_t height, std::size_t width,
                                       std::size_t threads, const std::string& isa) {
    const Frame frame = as_frame(planes, format);
    const Box* begin = as_boxes(boxes, frame);
    if (height == 0 || width == 0) throw py::value_error("height and width must be at least 1");
    const Options options{find_kernels(isa), threads};
    const auto count = static_cast<std::size_t>(boxes.shape(0));
    py::array_t<std::uint8_t> result({count, height, width, std::size_t{3}});
    std::uint8_t* out = result.mutable_data();
    {
        const py::gil_scoped_release release;
        stcanet::resize_boxes(frame, begin, count, height, width, options, out, watch_signals(false));
    }
    return result;
}

}  // namespace

void bind_resize(py::module_& m) {
    using py::arg;
    m.def("resize_boxes", &resize_boxes, arg("planes").noconvert(), arg("format"), arg("boxes").noconvert(),
          arg("height"), arg("width"), arg("threads") = 0, arg("isa") = "");
}

}  // namespace stcanet::bindings
