"""The same work as bench/data.ts with datasets, a Rust tokenizer and TRL's packing.

python data_peer.py <file> <tokenizer> <cache folder> <processes> <rows>

One line of JSON per way of tokenizing: row by row as TRL's SFTTrainer does it (chat template, assistant mask from
generation blocks), and in batches without a mask, which is the fastest that datasets and the tokenizer can do.
"""

import hashlib
import json
import os
import resource
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import datasets
import trl
from transformers import PreTrainedTokenizerFast
from trl import pack_dataset

LENGTH = 256


def read(path, rows, folder):
    """Broken lines are left out: datasets stops at the first one."""
    clean = os.path.join(folder, "clean.jsonl")
    with open(path, encoding="utf8") as source, open(clean, "w", encoding="utf8") as target:
        for i, line in enumerate(source):
            if i >= rows:
                break
            try:
                json.loads(line)
            except ValueError:
                continue
            target.write(line)
    return datasets.load_dataset("json", data_files=clean, split="train", cache_dir=os.path.join(folder, "cache"))


def is_valid(example):
    roles = [message["role"] for message in example["messages"] if message["role"] != "system"]
    return len(roles) > 1 and all(role == ("user", "assistant")[i % 2] for i, role in enumerate(roles))


def without_duplicates(data, processes):
    def fingerprint(example):
        text = json.dumps([[message["role"], " ".join(message["content"].split())] for message in example["messages"]])
        return {"hash": hashlib.sha256(text.encode()).hexdigest()}

    data = data.map(fingerprint, num_proc=processes)
    seen = set()
    keep = [i for i, value in enumerate(data["hash"]) if not (value in seen or seen.add(value))]
    return data.select(keep)


def row_by_row(tokenizer):
    def tokenize(example):
        out = tokenizer.apply_chat_template(
            example["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return {"input_ids": out["input_ids"][:LENGTH], "assistant_masks": out["assistant_masks"][:LENGTH]}

    return tokenize, False


def in_batches(tokenizer):
    def tokenize(batch):
        texts = tokenizer.apply_chat_template(batch["messages"], tokenize=False)
        out = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=LENGTH)
        return {"input_ids": out["input_ids"]}

    return tokenize, True


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main():
    path, tokenizer_folder, folder, processes, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    datasets.disable_progress_bars()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    number = None if processes == 1 else processes
    for name, way in (("rows", row_by_row), ("batches", in_batches)):
        work = os.path.join(folder, f"{name}-{processes}")
        os.makedirs(work)
        start = time.perf_counter()
        cpu_before = cpu_seconds()
        data = read(path, rows, work)
        total = rows
        data = data.filter(is_valid, num_proc=number)
        data = without_duplicates(data, number)
        tokenize, batched = way(tokenizer)
        before = time.perf_counter()
        data = data.map(tokenize, batched=batched, num_proc=number, remove_columns=data.column_names)
        tokenized = time.perf_counter() - before
        tokens = sum(len(ids) for ids in data.with_format("arrow")["input_ids"].to_pylist()) if len(data) < 20000 else None
        packed = pack_dataset(data, LENGTH, "bfd")
        seconds = time.perf_counter() - start
        cpu = cpu_seconds() - cpu_before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        versions = f"datasets {datasets.__version__}, trl {trl.__version__}"
        detail = f"{versions}, {processes} processes, tokenizing {tokenized:.1f} s, {len(packed)} packed rows"
        if tokens is not None:
            detail += f", {tokens} tokens"
        print(json.dumps({"what": f"py-{name}", "rows": total, "seconds": seconds, "cpuSeconds": cpu, "peakMegabytes": peak / 1000, "detail": detail}), flush=True)


if __name__ == "__main__":
    main()
