"""Times bitsandbytes' 4-bit codec on the CPU, after checking that it agrees with ours on the same weights.

python quant_peer.py <file.safetensors> <threads>
The file holds for each dtype the weights and our NF4 codes and absmax. Prints one JSON object: MB/s of 16- or 32-bit
weights, the best of several runs, with one thread and with <threads>.
"""

import json
import sys
import time

import bitsandbytes
import bitsandbytes.functional as bnb
import torch
from safetensors.torch import load_file


def best(seconds, work):
    work()
    times = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main(path, threads):
    tensors = load_file(path)
    result = {"version": f"bitsandbytes {bitsandbytes.__version__}, torch {torch.__version__}", "rates": []}
    for dtype in ("bf16", "f16", "f32"):
        x = tensors[f"{dtype}/x"]
        codes, state = bnb.quantize_4bit(x, quant_type="nf4")
        if not torch.equal(codes.flatten(), tensors[f"{dtype}/codes"]) or not torch.equal(state.absmax, tensors[f"{dtype}/absmax"]):
            raise SystemExit(f"{dtype}: the codes of bitsandbytes differ from ours")
        megabytes = x.numel() * x.element_size() / 1e6
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            quantize = megabytes / best(1.0, lambda: bnb.quantize_4bit(x, quant_type="nf4"))
            dequantize = megabytes / best(0.5, lambda: bnb.dequantize_4bit(codes, state))
            result["rates"].append({"dtype": dtype, "threads": count, "quantize": quantize, "dequantize": dequantize})
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
