#!/bin/sh
# All that needs a GPU, in one call of under ten minutes: build, tests, measurements, memory and race checks.
#
#     sh benchmarks/gpu.sh [FOLDER]
#
# It takes the python3, nvcc and compute-sanitizer of the PATH and installs nothing. Each part runs whatever became of the
# others; none may take longer than is left. FOLDER gets a copy of every result as soon as it is there. Where the tree is no
# checkout, STCANET_COMMIT says what it is. Status 1 if a part failed or measured nothing, and the last lines name it.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=${1:-}
root=$PWD
export PYTHONPATH="$root:$root/runtime:$root/export:$root/benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "error: the torch of $(command -v python3) sees no GPU" >&2; exit 1; }
end=$(($(date +%s) + ${STCANET_GPU_SECONDS:-570}))
failed= idle=

# part NAME SECONDS COMMAND…
part() {
    name=$1 limit=$2
    shift 2
    begun=$(date +%s)
    [ "$limit" -le $((end - begun)) ] || limit=$((end - begun))
    printf '\n== %s\n' "$name"
    if [ "$limit" -lt 5 ]; then
        echo "== $name: no time left"
        failed="$failed $name"
        return
    fi
    timeout "$limit" "$@"
    case $? in
        0) ;;
        77) idle="$idle $name" ;; # NOTHING_MEASURED of provenance.py
        *) failed="$failed $name" ;;
    esac
    echo "== $name: $(($(date +%s) - begun)) s"
    [ -z "$folder" ] || cp benchmarks/results/*gpu*.json benchmarks/results/attention.json "$folder" 2>/dev/null
}

part build 180 sh -c '
    cmake -S . -B build/gpu -DSTCANET_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native -DPython_EXECUTABLE="$(command -v python3)" &&
    cmake --build build/gpu --parallel && cmake --install build/gpu --prefix runtime'

# Warnings of packages that are newer or older than ours are no failures here.
tests="python3 -m pytest -q -p nothing_ran -m gpu -W default"
attention="tests/stcanet/test_fused.py tests/stcanet/test_fused_relation.py"
# PyTorch's own allocator hands out pieces of large blocks, in which nobody sees an overrun.
check="env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 --report-api-errors no --kernel-name kns=stcanet"

part attention-tests 120 $tests $attention
part attention 240 python3 benchmarks/bench_attention.py
part rerank 90 python3 benchmarks/bench_gpu_rerank.py
part model 90 python3 benchmarks/bench_model.py
part preprocess 40 python3 benchmarks/bench_preprocess.py --gpu --out benchmarks/results/preprocess_gpu.json
part memcheck 60 $check --tool memcheck $tests -k sanitize $attention
part racecheck 60 $check --tool racecheck $tests -k sanitize $attention
# Last: kernels that CuPy compiles meet random problems, and one that fails is made smaller for a long time.
part retrieval-tests 150 $tests --continue-on-collection-errors tests/runtime

[ -z "$failed" ] || echo "failed:$failed"
[ -z "$idle" ] || echo "nothing measured:$idle"
[ -z "$failed$idle" ]
