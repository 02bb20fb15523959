#!/bin/sh
# All that needs a GPU, in one call of under ten minutes: build, tests, measurements, memory and race checks.
#
#     sh benchmarks/gpu.sh [FOLDER [PART…]]
#
# It takes the python3, nvcc and compute-sanitizer of the PATH and installs nothing. Without PART it runs all, what is most
# telling first; else the build and those that are named, such as the ones that had no time left. Each part runs whatever became
# of the others. FOLDER, build/gpu-results if none is named, gets the output of all parts in log.txt, as it comes, and every result
# as soon as it is there: five files, as few as some machines give back. Where the tree is no checkout, say what it is, or results
# say "unknown": STCANET_COMMIT=0123456789ab sh benchmarks/gpu.sh. Status 1 if a part failed or measured nothing, and the last
# lines name it.
set -u
start=$(date +%s) total=${STCANET_GPU_SECONDS:-570} planned=0
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
folder=${1:-$root/build/gpu-results}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd) && cd "$root" || exit 1
[ $# -eq 0 ] || shift
for name; do
    grep -q "^part $name " benchmarks/gpu.sh && continue
    echo "error: no part '$name'; there are" $(sed -n 's/^part \([a-z-]*\) .*/\1/p' benchmarks/gpu.sh) >&2
    exit 2
done
chosen=${*:+build $*}
export PYTHONPATH="$root:$root/runtime:$root/export:$root/benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "error: the torch of $(command -v python3) sees no GPU" >&2; exit 1; }
failed= idle= log=$folder/log.txt

# part NAME SECONDS COMMAND…: the seconds of all parts add up to 570; what one leaves of its own, those after it may take.
part() {
    name=$1
    planned=$((planned + $2))
    due=$((start + planned * total / 570))
    shift 2
    case " $chosen " in
        "  " | *" $name "*) ;;
        *) return ;;
    esac
    begun=$(date +%s)
    printf '\n== %s\n' "$name" | tee -a "$log"
    before=$(wc -c <"$log")
    if [ $((due - begun)) -lt 5 ]; then
        echo "== $name: no time left"
        failed="$failed $name"
        return
    fi
    timeout -s INT -k 5 $((due - begun)) "$@" >>"$log" 2>&1 # SIGINT: pytest still tells what has failed
    case $? in
        0) ;;
        77) idle="$idle $name" ;; # NOTHING_MEASURED of provenance.py
        *) failed="$failed $name" ;;
    esac
    tail -c "+$((before + 1))" "$log" | tail -n 20
    echo "== $name: $(($(date +%s) - begun)) s"
}

command -v ninja >/dev/null && export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
part build 150 sh -c '
    cmake -S . -B build/gpu -DSTCANET_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native -DPython_EXECUTABLE="$(command -v python3)" &&
    cmake --build build/gpu --parallel && cmake --install build/gpu --prefix runtime'

# Warnings of packages that are newer or older than ours are no failures here.
tests="python3 -m pytest -q -p nothing_ran -W default --continue-on-collection-errors"
attention="tests/stcanet/test_fused.py tests/stcanet/test_fused_relation.py"
# PyTorch's own allocator hands out pieces of large blocks, in which nobody sees an overrun.
check="env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 --report-api-errors no --kernel-name kns=stcanet"

part attention-tests 50 $tests -m gpu $attention
part retrieval-tests 50 $tests -m "gpu and not hypothesis" tests/runtime
part attention 100 python3 benchmarks/bench_attention.py --out "$folder"
part rerank 40 python3 benchmarks/bench_gpu_rerank.py --out "$folder"
part model 40 python3 benchmarks/bench_model.py --out "$folder"
part preprocess 20 python3 benchmarks/bench_preprocess.py --gpu --out "$folder"
part memcheck 40 $check --tool memcheck $tests -m gpu -k sanitize $attention
part racecheck 40 $check --tool racecheck $tests -m gpu -k sanitize $attention
# Last: kernels that CuPy compiles meet random problems, and one that fails is made smaller for a long time.
part random-retrieval 40 $tests -m "gpu and hypothesis" tests/runtime

echo
echo "all output: $folder"
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$idle" ] || echo "nothing measured:$idle"
[ -z "$failed$idle" ]
