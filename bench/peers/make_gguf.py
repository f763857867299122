"""A Llama-shaped safetensors model as a GGUF file with a made-up vocabulary, for the llama.cpp peer of bench/generate.

Run: python make_gguf.py <model folder> <out.gguf> <F32|Q8_0|Q4_0>. Needs gguf and safetensors (from PyPI).
"""
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

folder, out, kind = Path(sys.argv[1]), sys.argv[2], gguf.GGMLQuantizationType[sys.argv[3]]
config = json.loads((folder / "config.json").read_text())
tensors = load_file(folder / "model.safetensors")
heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]


def interleaved(weight, count):
    """Rows of each head in the order of GGML's rotary embedding."""
    return weight.reshape(count, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


writer = gguf.GGUFWriter(out, "llama")
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_block_count(config["num_hidden_layers"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(heads)
writer.add_head_count_kv(kv_heads)
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_rope_freq_base(config["rope_theta"])
writer.add_rope_dimension_count(config["hidden_size"] // heads)
writer.add_vocab_size(config["vocab_size"])
# llama.cpp wants a vocabulary, though only token ids are used.
control = ["<unk>", "<s>", "</s>"]
byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
words = [f"t{i}" for i in range(config["vocab_size"] - len(control) - len(byte_tokens))]
kinds = [gguf.TokenType.CONTROL] * len(control) + [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(words)
writer.add_tokenizer_model("llama")
writer.add_token_list([*control, *byte_tokens, *words])
writer.add_token_scores([0.0] * config["vocab_size"])
writer.add_token_types(kinds)
writer.add_unk_token_id(0)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
for key, weight in tensors.items():
    weight = weight.astype(np.float32)
    if key.endswith("q_proj.weight"):
        weight = interleaved(weight, heads)
    if key.endswith("k_proj.weight"):
        weight = interleaved(weight, kv_heads)
    # Norms stay in float32; the embedding is the output too, and keeps 8 bits at least.
    dense = weight.ndim == 1 or kind == gguf.GGMLQuantizationType.F32
    own = gguf.GGMLQuantizationType.Q8_0 if "embed_tokens" in key and not dense else kind
    name = names.get_name(key, try_suffixes=(".weight",))
    if dense:
        writer.add_tensor(name, weight)
    else:
        writer.add_tensor(name, gguf.quants.quantize(weight, own), raw_dtype=own)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
