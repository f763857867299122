"""Transformers' `generate` on the model and prompt of bench/generate. Prints one line of JSON. Needs torch, transformers."""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM

folder, dtype, threads, prompt, new_tokens, repeats = sys.argv[1:7]
prompt, new_tokens, repeats = int(prompt), int(new_tokens), int(repeats)
torch.set_num_threads(int(threads))
model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
ids = torch.arange(prompt).mul(7919).add(13).remainder(model.config.vocab_size).view(1, prompt)


def seconds(count):
    start, cpu = time.perf_counter(), time.process_time()
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, min_new_tokens=count,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return time.perf_counter() - start, time.process_time() - cpu, out[0, prompt:].tolist()


def median(values):
    return sorted(values)[len(values) // 2]


with torch.inference_mode():
    seconds(4)
    firsts = [seconds(1) for _ in range(repeats)]
    runs = [seconds(new_tokens) for _ in range(repeats)]
wall, cpu = (median([run[i] for run in runs]) - median([run[i] for run in firsts]) for i in (0, 1))
print(json.dumps({
    "prefill": prompt / median([run[0] for run in firsts]), "decode": (new_tokens - 1) / wall,
    "cpuMs": 1000 * cpu / (new_tokens - 1), "tokens": runs[0][2],
}))  # fmt: skip
