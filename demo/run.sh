#!/bin/sh
# The whole chain on drawn people, each step a command that you could type yourself.
set -eu
out=${1:-build/demo}
# Only what an earlier demo left is removed, which its first command tells.
if [ -n "$(ls -A "$out" 2>/dev/null)" ] && ! grep -qsx 'stcanet info' "$out/commands.txt"; then
    echo "error: $out is not empty and not of an earlier demo; name another folder, or remove it yourself" >&2
    exit 1
fi
rm -rf "$out"
mkdir -p "$out"

step() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    echo "$*" >> "$out/commands.txt"
    "$@"
}

started=$(date +%s)
step stcanet info
step stcanet synth "$out/people" --distractors 200
step stcanet train --config recipes/demo.toml --data "$out/people" --out "$out/run"
step stcanet evaluate "$out/run/best.pt" --data "$out/people" --out "$out/torch.json"
step stcanet export "$out/run/best.pt" --out "$out/package"
step stcanet evaluate "$out/package" --data "$out/people" --provider cpu --out "$out/runtime.json"
step stcanet infer "$out/package" "$out/people/query" --gallery "$out/people/bounding_box_test" --sheet "$out/ranks.png"
python demo/report.py "$out" $(($(date +%s) - started))
