// A parallel loop over independent units of work.
#pragma once

#include <cstddef>
#include <functional>

namespace stcanet {

// Told how many units are done, from the calling thread, after each that this thread did; what it throws stops the
// loop and is thrown again to the caller. May be empty.
using Watch = std::function<void(std::size_t done)>;

// Calls work(unit) once for every unit in [0, units) on at most `threads` threads (0: one per processor of the
// machine). Units are handed out in order; the first exception stops the handing out and is thrown again here.
// Threads of its own and not OpenMP: no second OpenMP runtime beside PyTorch's, no spinning between calls, safe after
// fork.
void parallel_for(std::size_t units, std::size_t threads, const std::function<void(std::size_t)>& work,
                  const Watch& watch = {});

// The same for many small pieces of work: calls work(begin, end) for consecutive ranges of `size`, the last may be
// shorter. A range is a unit.
void parallel_ranges(std::size_t count, std::size_t size, std::size_t threads,
                     const std::function<void(std::size_t begin, std::size_t end)>& work, const Watch& watch = {});

// More than any machine grants; a multiple of it does not overflow.
constexpr std::size_t kMaxThreads = std::size_t{1} << 16;

// At most kMaxThreads; 0 stands for one per processor of the machine, whichever of them this process may use.
std::size_t resolve_threads(std::size_t threads);

}  // namespace stcanet
