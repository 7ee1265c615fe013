#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Builds and checks the CUDA operators (check_cuda.sh), then times prediction
# and training in float32 and in bfloat16, and writes one JSON file each.
#   bash tools/misc/benchmark_cuda.sh [OUT]        (default work_dirs/benchmark)
# Settings:
#   BACKBONES   default "r50 vswin-b"
#   FRAMES      default "5 36"
#   SDISTS      folder for check_cuda.sh on a machine without a network
#   DEVICE      default cuda; with cpu nothing is built or checked
#   OPTIONS     further options of benchmark.py, such as "--size 96 160"
#   PYTHON      the interpreter (default: that of the active environment)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:-work_dirs/benchmark}
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
read -ra options <<<"${OPTIONS:-}"

if [ "$device" = cuda ]; then
    PYTHON=$python bash tools/misc/check_cuda.sh ${SDISTS:+"$SDISTS"}
fi

failed=0
for backbone in ${BACKBONES:-r50 vswin-b}; do
    config=configs/referformer_${backbone}_ytvos.py
    for frames in ${FRAMES:-5 36}; do
        for command in infer train; do
            name=${command}_${backbone}_T$frames
            printf '\n== %s\n' "$name"
            # A is float32, B bfloat16; a setting that does not fit into
            # memory must not end the others
            "$python" tools/analysis_tools/benchmark.py "$command" "$config" \
                --device "$device" --frames "$frames" --warmup 3 \
                --repeats 10 --vs amp=bf16 --out "$out/$name.json" \
                "${options[@]+"${options[@]}"}" || failed=$((failed + 1))
        done
        if [ "$frames" = 5 ]; then
            name=infer_${backbone}_T${frames}_8-expressions
            printf '\n== %s\n' "$name"
            "$python" tools/analysis_tools/benchmark.py infer "$config" \
                --device "$device" --frames "$frames" --expressions 8 \
                --warmup 3 --repeats 10 --vs expressions=1 \
                --out "$out/$name.json" "${options[@]+"${options[@]}"}" ||
                failed=$((failed + 1))
        fi
    done
done
printf '\nresults are in %s; %d measurements failed\n' "$out" "$failed"
[ "$failed" = 0 ]
