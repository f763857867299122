"""LoRA training steps of a Mistral-7B-shaped model with Transformers + PEFT on one GPU: the peer of bench/train-cuda.ts.

Random weights, bf16 base (NF4 of bitsandbytes with --nf4), r=16 on q, k, v, o, autocast.
Usage: python bench/peers/train_cuda.py [--layers 32] [--steps 5] [--only NAME] [--nf4]
"""

import argparse
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

WORKLOADS = [
    ("1x256 acc 4", 1, 256, 4, False),
    ("1x256 acc 4, checkpoint", 1, 256, 4, True),
    ("4x256", 4, 256, 1, False),
    ("4x1024", 4, 1024, 1, False),
    ("8x1024, checkpoint", 8, 1024, 1, True),
]


def quantize(model):
    """Replaces the layers' linears by bitsandbytes' NF4 ones, as Transformers does when it loads a model in 4 bits."""
    import bitsandbytes as bnb

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear) and name != "lm_head":
                new = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta"
                )
                new.weight = bnb.nn.Params4bit(
                    child.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=False, module=new
                ).cuda()
                setattr(module, name, new)
    model.is_loaded_in_4bit = True
    torch.cuda.empty_cache()
    print(f"bitsandbytes {bnb.__version__}", flush=True)


def build(layers, nf4):
    config = MistralConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=layers,
        num_attention_heads=32, num_key_value_heads=8, sliding_window=None, attn_implementation="sdpa",
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = MistralForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if nf4:
        quantize(model)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], bias="none")
    model = get_peft_model(model, lora)
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    return model


def measure(model, name, batch, tokens, accumulation, checkpoint, steps, nf4):
    if checkpoint:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    else:
        model.gradient_checkpointing_disable()
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()

    def step():
        for _ in range(accumulation):
            ids = torch.randint(0, 32000, (batch, tokens), device="cuda")
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(input_ids=ids, labels=ids).loss / accumulation
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(2):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    free, total = torch.cuda.mem_get_info()
    print(
        f"peer {'NF4' if nf4 else 'bf16'} {name}: {1 / seconds:.2f} steps/s, {batch * tokens * accumulation / seconds:.0f} tokens/s, "
        f"peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB allocated, device {(total - free) / 2**30:.2f} GiB",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--nf4", action="store_true")
    args = parser.parse_args()
    model = build(args.layers, args.nf4)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {'NF4' if args.nf4 else 'bf16'} base", flush=True)
    for name, batch, tokens, accumulation, checkpoint in WORKLOADS:
        if args.only in name:
            measure(model, name, batch, tokens, accumulation, checkpoint, args.steps, args.nf4)


if __name__ == "__main__":
    main()
