"""Opens what MiraStral wrote with PEFT, Transformers and gguf, and compares logits and updates.

Run from the repository's root, after `node scripts/build.mjs`, in the environment of fixtures/requirements.txt (and
`pip install gguf` for the last part, which is left out with a message where it is missing):
  python packages/lora/test/python/check_exports.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).parents[4]
BASE = ROOT / "fixtures/lora/llama"
TOKENS, HEADS, KV_HEADS = 12, 4, 2
OUT = tempfile.TemporaryDirectory()
script = str(Path(__file__).parent / "write-exports.ts")
subprocess.run(
    ["node", "--no-warnings", "--loader", "ts-node/esm", script, str(BASE), OUT.name], check=True, cwd=ROOT
)

ids = torch.arange(TOKENS).mul(7).remainder(96).unsqueeze(0)


def compare(what, got, expected, tolerance=1e-4):
    worst = float(((got - expected).abs() / (expected.abs() + expected.square().mean().sqrt())).max())
    print(f"{what}: {worst:.1e}")
    assert worst < tolerance, what


def gguf_update(reader, config, adapter, name):
    """Every update that llama.cpp would add, against the adapter's own, with the row order of llama.cpp's converter."""
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["general.type"] == "adapter" and fields["adapter.type"] == "lora" and fields["general.architecture"] == "llama"
    held = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    parts = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
             "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}  # fmt: skip
    count = 0
    for key, a in adapter.items():
        if not key.endswith("lora_A.weight"):
            continue
        pieces = key.split(".")
        layer, module, rank = pieces[4], pieces[6], a.shape[0]
        b = adapter[key.replace("lora_A", "lora_B")]
        scaling = config["lora_alpha"] / (rank**0.5 if config["use_rslora"] else rank)
        expected = scaling * b @ a
        if module in ("q_proj", "k_proj"):
            heads = HEADS if module == "q_proj" else KV_HEADS
            expected = expected.reshape(heads, 2, -1, expected.shape[1]).swapaxes(1, 2).reshape(expected.shape)
        stem = f"blk.{layer}.{parts[module]}.weight"
        got = fields["adapter.lora.alpha"] / rank * held[f"{stem}.lora_b"] @ held[f"{stem}.lora_a"]
        assert torch.allclose(got, expected, rtol=1e-5, atol=1e-7), (name, key)
        count += 1
    assert count * 2 == len(held)
    print(f"{name}: gguf holds {count} updates")


for folder in sorted(Path(OUT.name).iterdir()):
    name = folder.name
    expected = load_file(folder / "logits.safetensors")["logits"]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
        compare(f"{name}: PEFT", PeftModel.from_pretrained(base, folder / "adapter")(ids).logits[0], expected)
        merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
        compare(f"{name}: merged, Transformers", merged(ids).logits[0], expected)
    if (folder / "adapter.gguf").exists():
        try:
            from gguf import GGUFReader
        except ImportError:
            print(f"{name}: gguf is not installed, its file is not checked")
            continue
        config = json.loads((folder / "adapter/adapter_config.json").read_text())
        gguf_update(GGUFReader(folder / "adapter.gguf"), config, load_file(folder / "adapter/adapter_model.safetensors"), name)
print("all well", file=sys.stderr)
