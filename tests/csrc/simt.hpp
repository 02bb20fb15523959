// A block of GPU threads on the CPU, to run the bodies of csrc/cuda: every thread is a fiber with its own stack, and
// they take turns in random order between the points where they wait for one another. So a missing barrier shows as a
// wrong result, a barrier that not all threads reach as a deadlock, and memory that nobody wrote as NaN. Copies to
// shared memory happen as late as the instructions allow: when they are waited for. Tensor-core and matrix-load
// instructions exchange registers between lanes as the PTX manual defines it.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "fragments.hpp"

namespace simt {

using namespace stcanet::cuda;

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "simt: %s\n", what);
    std::abort();
}

inline float from_bits(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float bf16_to_float(std::uint16_t bits) { return from_bits(static_cast<std::uint32_t>(bits) << 16); }

inline std::uint16_t float_to_bf16(float x) {
    const std::uint32_t bits = float_bits(x);
    if (std::isnan(x)) return 0x7fff;
    return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float fp16_to_float(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float sign = bits & 0x8000 ? -1.0F : 1.0F;
    if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? std::ldexp(1024.0F + mantissa, exponent - 25) : std::ldexp(1.0F * mantissa, -24));
}

inline std::uint16_t float_to_fp16(float x) {
    if (std::isnan(x)) return 0x7fff;
    const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    const float size = std::fabs(x);
    if (size >= 65520.0F) return sign | 0x7c00;
    int exponent = size < std::ldexp(1.0F, -14) ? -14 : std::ilogb(size);
    const float units =
        std::nearbyint(std::ldexp(size, 10 - exponent));  // to nearest even; 2048 carries into the exponent
    return sign | static_cast<std::uint16_t>(units + (units >= 1024.0F ? 1024.0F * (exponent + 14) : 0.0F));
}

// What the threads of a block share.
class Block {
  public:
    Block(int threads, std::size_t shared_bytes, unsigned seed)
        : shared(shared_bytes / 4, NAN), fibers_(threads), warps_(threads / kWarp), random_(seed) {}

    // Runs body(thread) for every thread of the block.
    void run(const std::function<void(int)>& body) {
        body_ = &body;
        for (int i = 0; i < size(); ++i) start(i);
        while (!ready_.empty()) {
            std::swap(ready_[random_() % ready_.size()], ready_.back());
            current_ = ready_.back();
            ready_.pop_back();
            swapcontext(&scheduler_, &fibers_[current_].context);
        }
        if (finished_ != size()) fail("threads wait for others that never come");
    }

    int size() const { return static_cast<int>(fibers_.size()); }
    int current() const { return current_; }

    // All threads of the block come here before any goes on.
    void sync() {
        if (static_cast<int>(barrier_.size()) + 1 == size()) {
            release(barrier_);
        } else {
            wait_in(barrier_);
        }
    }

    // All lanes of a warp bring the same kind of operation; the last one performs it for all.
    template <class Operands, class Perform>
    void together(const char* kind, Operands& mine, Perform perform) {
        Warp& warp = warps_[current_ / kWarp];
        if (warp.waiting.empty()) warp.kind = kind;
        if (std::strcmp(warp.kind, kind) != 0) fail("lanes of a warp are at different instructions");
        warp.operands[current_ % kWarp] = &mine;
        if (warp.waiting.size() + 1 < kWarp) return wait_in(warp.waiting);
        Operands* all[kWarp];
        for (int lane = 0; lane < kWarp; ++lane) all[lane] = static_cast<Operands*>(warp.operands[lane]);
        perform(all);
        release(warp.waiting);
    }

    std::vector<float> shared;

  private:
    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
    };
    struct Warp {
        std::vector<int> waiting;
        void* operands[kWarp];
        const char* kind = "";
    };

    static constexpr std::size_t kStack = 128 * 1024;

    static Block*& running() {
        static thread_local Block* block = nullptr;
        return block;
    }

    static void enter() {
        Block& block = *running();
        (*block.body_)(block.current_);
        ++block.finished_;
        setcontext(&block.scheduler_);
    }

    void start(int i) {
        running() = this;
        Fiber& fiber = fibers_[i];
        fiber.stack.reset(new char[kStack]);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = kStack;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, &Block::enter, 0);
        ready_.push_back(i);
    }

    void wait_in(std::vector<int>& list) {
        list.push_back(current_);
        swapcontext(&fibers_[current_].context, &scheduler_);
    }

    void release(std::vector<int>& list) {
        ready_.insert(ready_.end(), list.begin(), list.end());
        list.clear();
    }

    std::vector<Fiber> fibers_;
    std::vector<Warp> warps_;
    std::vector<int> ready_, barrier_;
    std::mt19937 random_;
    ucontext_t scheduler_;
    const std::function<void(int)>* body_ = nullptr;
    int current_ = 0, finished_ = 0;
};

// One thread of a block: what fragments.hpp asks of Exec.
class Thread {
  public:
    Thread(Block& block, int index) : block_(block), index_(index) {}
    ~Thread() {
        for (const auto& group : copies_)
            if (!group.empty()) fail("copies that nobody waited for");
        if (!open_.empty()) fail("copies without a commit");
    }

    int thread() const { return index_; }
    void sync() { block_.sync(); }
    char* shared() { return reinterpret_cast<char*>(block_.shared.data()); }
    static float exp(float x) { return std::exp(x); }

    template <class T>
    T shuffle_xor(T x, int mask) {
        struct Operands {
            T value, result;
            int mask;
        } mine{x, T{}, mask};
        block_.together("shuffle", mine, [](Operands** all) {
            for (int lane = 0; lane < kWarp; ++lane) all[lane]->result = all[lane ^ all[lane]->mask]->value;
        });
        return mine.result;
    }

    void load_matrices(std::uint32_t (&f)[4], const void* address) { load(f, address, false); }
    void load_matrices_across(std::uint32_t (&f)[4], const void* address) { load(f, address, true); }

    template <class E>
    void multiply(E, float* c, const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
        struct Operands {
            float* c;
            const std::uint32_t* a;
            std::uint32_t b[2];
        } mine{c, a, {b0, b1}};
        block_.together("mma", mine, [](Operands** all) {
            float left[16][E::kStep], right[E::kStep][8];
            for (int lane = 0; lane < kWarp; ++lane) {
                const int g = lane / 4, t = lane % 4;
                for (int r = 0; r < 4; ++r) spread(E{}, all[lane]->a[r], left[g + 8 * (r % 2)], r / 2, t);
                float column[E::kStep];
                for (int r = 0; r < 2; ++r) spread(E{}, all[lane]->b[r], column, r, t);
                for (int r = 0; r < 2; ++r)
                    for (int k : held(E{}, r, t)) right[k][g] = column[k];
            }
            for (int lane = 0; lane < kWarp; ++lane)
                for (int e = 0; e < 4; ++e) {
                    const int row = lane / 4 + 8 * (e / 2), col = 2 * (lane % 4) + e % 2;
                    double sum = all[lane]->c[e];
                    for (int k = 0; k < E::kStep; ++k) sum += static_cast<double>(left[row][k]) * right[k][col];
                    all[lane]->c[e] = cut_off(sum);
                }
        });
    }

    // Tensor cores do not round sums to float32 but cut them off (Fasi, Higham, Mikaitis and Pranesh, "Numerical
    // behavior of NVIDIA tensor cores", PeerJ Computer Science, 2021).
    static float cut_off(double x) {
        const auto rounded = static_cast<float>(x);
        return std::abs(static_cast<double>(rounded)) > std::abs(x) ? std::nextafter(rounded, 0.0F) : rounded;
    }

    static std::uint32_t round_tf32(float x) { return (float_bits(x) + 0x1000U) & ~0x1fffU; }  // ties away from zero

    void copy(void* to, const void* from, bool inside) {
        if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0) fail("a copy to an address that is no multiple of 16");
        if (inside && reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
            fail("a copy from an address that is no multiple of 16");
        open_.push_back({to, from, inside});
    }
    void commit() {
        copies_.push_back(open_);
        open_.clear();
    }
    template <int Left>
    void wait() {
        for (; copies_.size() > Left; copies_.pop_front())
            for (const Copy& copy : copies_.front()) {
                std::memset(copy.to, 0, 16);
                if (copy.inside) std::memcpy(copy.to, copy.from, 16);
            }
    }

    static float to_float(Bf16, std::uint16_t bits) { return bf16_to_float(bits); }
    static float to_float(Fp16, std::uint16_t bits) { return fp16_to_float(bits); }
    static std::uint16_t from_float(Bf16, float x) { return float_to_bf16(x); }
    static std::uint16_t from_float(Fp16, float x) { return float_to_fp16(x); }

  private:
    struct Copy {
        void* to;
        const void* from;
        bool inside;
    };

    // Where register r of lane t in its group of four holds values along the depth.
    static std::vector<int> held(Tf32, int r, int t) { return {t + 4 * r}; }
    template <class E>
    static std::vector<int> held(E, int r, int t) {
        return {2 * t + 8 * r, 2 * t + 1 + 8 * r};
    }

    // Tensor cores ignore what float32 has beyond tf32.
    static void spread(Tf32, std::uint32_t bits, float* row, int r, int t) {
        row[t + 4 * r] = from_bits(bits & ~0x1fffU);
    }
    template <class E>
    static void spread(E, std::uint32_t bits, float* row, int r, int t) {
        row[2 * t + 8 * r] = to_float(E{}, static_cast<std::uint16_t>(bits));
        row[2 * t + 8 * r + 1] = to_float(E{}, static_cast<std::uint16_t>(bits >> 16));
    }

    void load(std::uint32_t (&f)[4], const void* address, bool across) {
        struct Operands {
            const std::uint16_t* row;
            std::uint32_t* f;
        } mine{static_cast<const std::uint16_t*>(address), f};
        if (reinterpret_cast<std::uintptr_t>(address) % 16 != 0)
            fail("ldmatrix of an address that is no multiple of 16");
        block_.together(across ? "ldmatrix.trans" : "ldmatrix", mine, [across](Operands** all) {
            for (int lane = 0; lane < kWarp; ++lane)
                for (int m = 0; m < 4; ++m) {
                    const int g = lane / 4, t = lane % 4;
                    const auto at = [&](int row, int col) { return all[8 * m + row]->row[col]; };
                    const std::uint32_t low = across ? at(2 * t, g) : at(g, 2 * t);
                    const std::uint32_t high = across ? at(2 * t + 1, g) : at(g, 2 * t + 1);
                    all[lane]->f[m] = low | high << 16;
                }
        });
    }

    Block& block_;
    int index_;
    std::vector<Copy> open_;
    std::deque<std::vector<Copy>> copies_;
};

// Runs body(exec) as a block.
template <class Body>
void run_block(int threads, std::size_t shared_bytes, unsigned seed, Body body) {
    Block block(threads, shared_bytes, seed);
    block.run([&](int thread) {
        Thread exec(block, thread);
        body(exec);
    });
}

}  // namespace simt
