#!/usr/bin/env python3
"""Times torch's bf16 linear as linear_bench times moxie's: a CUDA graph over cold weights, the median of its runs.

    bench/linear_torch.py [--json FILE] [LINEAR_BENCH ...]

With a path to linear_bench (and arguments for it) that program runs in the same call, and each of its lines of
mxfp4_linear is printed beside torch's time for the same rows, n and k, so that the ratio is of one run. Weights are copies
that together pass ten times the L2; data is random.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

SHAPES = ((2880, 2880), (5760, 2880), (8192, 8192))
ROWS = (1, 4, 16, 64, 256, 1024, 4096)
COLD_BYTES = 640_000_000


def median_us(torch, rows, n, k, runs=21):
    """One product of the graph, in microseconds."""
    copies = max(8, COLD_BYTES // (2 * n * k))
    x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
    one = torch.randn(n, k, device="cuda", dtype=torch.bfloat16) * 0.02
    weights = [one.clone() for _ in range(copies)]
    for w in weights[:2]:
        torch.nn.functional.linear(x, w)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for w in weights:
            torch.nn.functional.linear(x, w)
    times = []
    for run in range(runs + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        if run >= 3:
            times.append(begin.elapsed_time(end) * 1000 / copies)
    return statistics.median(times)


def torch_times():
    """{(rows, n, k): us}, or None with a sentence on standard error."""
    try:
        import torch
    except ImportError:
        print("linear_torch: torch is not installed; nothing to compare with", file=sys.stderr)
        return None
    if not torch.cuda.is_available():
        print("linear_torch: torch sees no GPU; nothing to compare with", file=sys.stderr)
        return None
    return {(rows, n, k): median_us(torch, rows, n, k) for n, k in SHAPES for rows in ROWS}


def moxie_lines(command):
    """The lines of mxfp4_linear that `command` writes to its JSON file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "linear.json")
        subprocess.run([*command, "--json", path], check=True)
        with open(path, encoding="utf-8") as file:
            results = json.load(file)["results"]
    return [line for line in results if line["operation"] == "mxfp4_linear"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the times, and the ratios if there are any, to this file")
    parser.add_argument("bench", nargs=argparse.REMAINDER, help="linear_bench and its arguments")
    args = parser.parse_args()
    times = torch_times()
    if times is None:
        return 1
    lines = moxie_lines(args.bench) if args.bench else []
    results = []
    for (rows, n, k), us in times.items():
        results.append({"rows": rows, "n": n, "k": k, "torch_us": us})
        flops = 2 * rows * n * k
        print(f"torch bf16 rows {rows} n {n} k {k}: {us:.2f} us, {2 * n * k / us / 1e6:.2f} TB/s, {flops / us / 1e6:.0f} TFLOP/s")
    for line in lines:
        us = times.get((line["rows"], line["n"], line["k"]))
        if us is None:
            continue
        results.append({**line, "torch_us": us, "ratio": us / line["us"]})
        print(f"rows {line['rows']} n {line['n']} k {line['k']}: torch {us:.2f} us, moxie {line['us']:.2f} us, "
              f"{us / line['us']:.2f} times as fast  {line['variant']}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
