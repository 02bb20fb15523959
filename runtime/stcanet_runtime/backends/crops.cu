// Kernels of the GPU backend for crops: boxes of a frame that stays on the GPU, with the bytes of csrc/cpu/resize.cpp.
// csrc/README.md has the formulas; tests/csrc/simt_backend.cpp compiles this file for the CPU.

#include "launch.cuh"

constexpr int kColors = 3;
constexpr int kWeightBits = 22, kYuvBits = 20;

// Planes without gaps. A frame of two planes has u and v interleaved, and v is null.
struct Picture {
    const Byte *first, *u, *v;
    int width;
    int pixels;  // 0: RGB, 1: BGR, 2: YUV

    STCANET_DEVICE static int byte(int x) { return x < 0 ? 0 : x > 255 ? 255 : x; }

    STCANET_DEVICE void read(int y, int x, int* rgb) const {
        const Long place = static_cast<Long>(y) * width + x;
        if (pixels != 2) {
            for (int c = 0; c < kColors; ++c) rgb[c] = first[place * kColors + (pixels == 1 ? kColors - 1 - c : c)];
            return;
        }
        const Long chroma = static_cast<Long>(y / 2) * ((width + 1) / 2) + x / 2;
        const int by_u = (v == nullptr ? u[2 * chroma] : u[chroma]) - 128;
        const int by_v = (v == nullptr ? u[2 * chroma + 1] : v[chroma]) - 128;
        const int light = first[place] < 16 ? 0 : first[place] - 16;
        const int sum = light * 1220542 + (1 << (kYuvBits - 1));  // BT.601; see frames.py
        rgb[0] = byte((sum + 1673527 * by_v) >> kYuvBits);
        rgb[1] = byte((sum - 409993 * by_u - 852492 * by_v) >> kYuvBits);
        rgb[2] = byte((sum + 2116026 * by_u) >> kYuvBits);
    }
};

// Boxes [N, 4]: left, upper, right and lower edge. They become crops of height x width pixels.
struct Boxes {
    const int* edges;
    int height, width;

    STCANET_DEVICE int left(Long b) const { return edges[4 * b]; }
    STCANET_DEVICE int top(Long b) const { return edges[4 * b + 1]; }
    STCANET_DEVICE int columns(Long b) const { return edges[4 * b + 2] - left(b); }
    STCANET_DEVICE int rows(Long b) const { return edges[4 * b + 3] - top(b); }
};

// What each output is made of: inputs [first, first + taps), and their weights [room]. Of a box the height outputs of
// the pass down come first, then the width outputs of the pass across.
struct Weights {
    const int *first, *taps, *values;
    int room;
};

// Keys' cubic with a = -1/2. The order of the operations is Pillow's: the last bit of a weight depends on it.
STCANET_DEVICE double bicubic(double x) {
    const double a = -0.5;
    x = x < 0.0 ? -x : x;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

// The weights of one output of one box.
template <class Exec>
STCANET_DEVICE void weigh_outputs(Exec&, Long item, Boxes boxes, int room, int* first, int* taps, int* values) {
    const int outputs = boxes.height + boxes.width, place = static_cast<int>(item % outputs);
    const bool down = place < boxes.height;
    const Long box = item / outputs;
    const int in = down ? boxes.rows(box) : boxes.columns(box), out = down ? boxes.height : boxes.width;
    const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = scale < 1.0 ? 1.0 : scale;
    const double support = 2.0 * stretch, inverse = 1.0 / stretch;
    const double center = (static_cast<double>(down ? place : place - boxes.height) + 0.5) * scale;
    const double low = center - support + 0.5;
    const int start = low < 0.0 ? 0 : static_cast<int>(low), end = static_cast<int>(center + support + 0.5);
    const int count = (end < in ? end : in) - start;
    double sum = 0.0;
    for (int k = 0; k < count; ++k) sum += bicubic((static_cast<double>(start + k) - center + 0.5) * inverse);
    for (int k = 0; k < count; ++k) {
        const double exact = bicubic((static_cast<double>(start + k) - center + 0.5) * inverse);
        const double weight = (sum != 0.0 ? exact / sum : exact) * (1 << kWeightBits);
        values[item * room + k] = static_cast<int>(weight < 0.0 ? weight - 0.5 : weight + 0.5);
    }
    first[item] = start;
    taps[item] = count;
}

// One pixel of the first pass. That of box b, [height, columns] where down[b], else [rows, width], begins at start[b].
template <class Exec>
STCANET_DEVICE void first_pass(Exec&, Long item, Picture picture, Boxes boxes, Weights weights, const Flag* down,
                               const Long* start, int count, Byte* out) {
    Long box = 0;
    for (Long end = count; end - box > 1;) {  // start[box] <= item < start[end]
        const Long middle = (box + end) / 2;
        (start[middle] <= item ? box : end) = middle;
    }
    const int columns = down[box] ? boxes.columns(box) : boxes.width;
    const int y = static_cast<int>((item - start[box]) / columns), x = static_cast<int>((item - start[box]) % columns);
    const Long output = box * (boxes.height + boxes.width) + (down[box] ? y : boxes.height + x);
    const int* const values = weights.values + output * weights.room;
    int sums[kColors] = {1 << (kWeightBits - 1), 1 << (kWeightBits - 1), 1 << (kWeightBits - 1)};
    for (int k = 0; k < weights.taps[output]; ++k) {
        const int input = weights.first[output] + k;
        int rgb[kColors];
        picture.read(boxes.top(box) + (down[box] ? input : y), boxes.left(box) + (down[box] ? x : input), rgb);
        for (int c = 0; c < kColors; ++c) sums[c] += values[k] * rgb[c];
    }
    for (int c = 0; c < kColors; ++c)
        out[item * kColors + c] = static_cast<Byte>(Picture::byte(sums[c] >> kWeightBits));
}

// One pixel of the second pass, which goes the other way; out [count, height, width, 3].
template <class Exec>
STCANET_DEVICE void second_pass(Exec&, Long item, Boxes boxes, Weights weights, const Flag* down, const Long* start,
                                const Byte* passed, Byte* out) {
    const int x = static_cast<int>(item % boxes.width), y = static_cast<int>(item / boxes.width % boxes.height);
    const Long box = item / boxes.width / boxes.height;
    const Long output = box * (boxes.height + boxes.width) + (down[box] ? boxes.height + x : y);
    const Long columns = down[box] ? boxes.columns(box) : boxes.width, step = down[box] ? 1 : columns;
    const Long from = start[box] + (down[box] ? y * columns : x) + weights.first[output] * step;
    const int* const values = weights.values + output * weights.room;
    for (int c = 0; c < kColors; ++c) {
        int sum = 1 << (kWeightBits - 1);
        for (int k = 0; k < weights.taps[output]; ++k) sum += values[k] * passed[(from + k * step) * kColors + c];
        out[item * kColors + c] = static_cast<Byte>(Picture::byte(sum >> kWeightBits));
    }
}

// ---- entries ------------------------------------------------------------------------------------------------------

#define BOX_PARAMETERS const int *edges, int height, int width
#define BOXES (Boxes{edges, height, width})
#define WEIGHT_PARAMETERS const int *first, const int *taps, const int *values, int room
#define WEIGHTS (Weights{first, taps, values, room})

KERNEL(weigh_outputs, (BOX_PARAMETERS, int room, int* first, int* taps, int* values),
       (BOXES, room, first, taps, values))
KERNEL(first_pass,
       (const Byte* plane, const Byte* u, const Byte* v, int columns, int pixels, BOX_PARAMETERS, WEIGHT_PARAMETERS,
        const Flag* down, const Long* start, int boxes, Byte* out),
       (Picture{plane, u, v, columns, pixels}, BOXES, WEIGHTS, down, start, boxes, out))
KERNEL(second_pass,
       (BOX_PARAMETERS, WEIGHT_PARAMETERS, const Flag* down, const Long* start, const Byte* passed, Byte* out),
       (BOXES, WEIGHTS, down, start, passed, out))
