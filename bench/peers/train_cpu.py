"""PyTorch + PEFT on the model and shape of bench/train-cpu. Prints one line of JSON. Needs torch, transformers, peft."""
import json
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

folder, batch, length, threads, steps, checkpointing = sys.argv[1:7]
batch, length, steps = int(batch), int(length), int(steps)
torch.set_num_threads(int(threads))
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
model.train()
if checkpointing == "full":
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0)
row = torch.arange(batch * length).mul(7919).add(13).remainder(49152).view(batch, length)
times, losses = [], []
for i in range(steps + 2):
    start = time.perf_counter()
    loss = model(input_ids=row, labels=row, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if i >= 2:
        times.append((time.perf_counter() - start) * 1000)
    losses.append(loss.item())
times.sort()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"ms": times[len(times) // 2], "best": times[0], "peakMb": peak, "losses": losses[:3]}))
