// The kernels of the GPU backend on the CPU: functions of C for tests/runtime/gpu_model.py. Items of a kernel run one
// by one in random order, the threads of a block as fibers in random order (simt.hpp).
#include <cmath>
#include <numeric>

#include "simt.hpp"

namespace {

unsigned seed = 0;

struct Single {  // shared sums are added by one
    static constexpr int kLanes = 1;
    static int add(int* place, int value) {
        const int before = *place;
        *place += value;
        return before;
    }
    static void raise(unsigned* place, unsigned value) { *place = std::max(*place, value); }
    static double exp(double x) { return std::exp(x); }
};

struct Fiber : Single {
    simt::Thread& of_block;
    int size;
    explicit Fiber(simt::Thread& exec, int threads) : of_block(exec), size(threads) {}
    int thread() const { return of_block.thread(); }
    int threads() const { return size; }
    void sync() { of_block.sync(); }
    char* shared() { return of_block.shared(); }
};

struct Lane : Fiber {
    static constexpr int kLanes = 16;
    using Fiber::Fiber;
    double shuffle_xor(double x, int mask) { return of_block.shuffle_xor(x, mask); }
};

// Every item once, in an order that the seed draws: steps that share no factor with the count.
template <class Body>
void each(long long count, Body body) {
    if (count == 0) return;
    std::mt19937 random(seed++);
    long long step = 1 + random() % count;
    while (std::gcd(step, count) != 1) step = step % count + 1;
    long long item = random() % count;
    for (long long i = 0; i < count; ++i, item = (item + step) % count) body(item);
}

}  // namespace

#define UNPACK(...) __VA_ARGS__
#define KERNEL(name, parameters, arguments)                                       \
    extern "C" void name##_kernel(long long count, UNPACK parameters) {           \
        Single exec;                                                              \
        each(count, [&](long long item) { name(exec, item, UNPACK arguments); }); \
    }
#define LANE_KERNEL(name, parameters, arguments)                                               \
    extern "C" void name##_kernel(long long count, UNPACK parameters) {                        \
        Single exec;                                                                           \
        each(count, [&](long long item) { name(exec, item, 0, UNPACK arguments); });           \
    }                                                                                          \
    extern "C" void name##_lanes(long long count, UNPACK parameters) {                         \
        for (long long first = 0; first < count; first += 2)                                   \
            simt::run_block(simt::kWarp, 16, seed++, [&](simt::Thread& thread) {               \
                Lane exec(thread, simt::kWarp);                                                \
                /* Lanes exchange 32 at a time here: those without an item repeat the last. */ \
                const long long item = std::min(first + thread.thread() / 16, count - 1);      \
                name(exec, item, thread.thread() % 16, UNPACK arguments);                      \
            });                                                                                \
    }
#define BLOCK_KERNEL(name, parameters, arguments)                             \
    extern "C" void name##_kernel(long long count, UNPACK parameters) {       \
        for (long long item = 0; item < count; ++item) {                      \
            const int threads = 1 + static_cast<int>(seed % 5);               \
            simt::run_block(threads, 128, seed++, [&](simt::Thread& thread) { \
                Fiber exec(thread, threads);                                  \
                name(exec, item, UNPACK arguments);                           \
            });                                                               \
        }                                                                     \
    }

using std::sqrt;
#include "../../runtime/stcanet_runtime/backends/crops.cu"
#include "../../runtime/stcanet_runtime/backends/retrieval.cu"

extern "C" void set_seed(unsigned value) { seed = value; }
