#include "stcanet/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace stcanet {

std::size_t resolve_threads(std::size_t threads) {
    return std::min(kMaxThreads, threads != 0 ? threads : std::max(1U, std::thread::hardware_concurrency()));
}

void parallel_for(std::size_t units, std::size_t threads, const std::function<void(std::size_t)>& work,
                  const Watch& watch) {
    std::atomic<std::size_t> next{0}, done{0};
    std::size_t last_told = 0;
    std::exception_ptr error;
    std::mutex error_mutex;
    const auto loop = [&](const Watch& told) {
        try {
            for (std::size_t unit; (unit = next.fetch_add(1)) < units;) {
                work(unit);
                const std::size_t finished = done.fetch_add(1) + 1;
                if (told) told(last_told = finished);
            }
        } catch (...) {
            next = units;
            const std::lock_guard<std::mutex> lock(error_mutex);
            if (!error) error = std::current_exception();
        }
    };
    const std::size_t workers = std::min(resolve_threads(threads), units);
    std::vector<std::thread> helpers;
    helpers.reserve(workers);
    try {
        while (helpers.size() + 1 < workers) helpers.emplace_back(loop, Watch{});
    } catch (const std::exception&) {
        // The system grants no more threads, or no memory for them: those that run do the work of all.
    }
    loop(watch);
    for (std::thread& helper : helpers) helper.join();
    if (error) std::rethrow_exception(error);
    if (watch && last_told < units) watch(units);  // another thread did the last
}

void parallel_ranges(std::size_t count, std::size_t size, std::size_t threads,
                     const std::function<void(std::size_t begin, std::size_t end)>& work, const Watch& watch) {
    parallel_for((count + size - 1) / size, threads,
                 [&](std::size_t unit) { work(unit * size, std::min(count, (unit + 1) * size)); }, watch);
}

}  // namespace stcanet
