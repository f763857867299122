"""Reads what publishAdapter published with Python's huggingface_hub, and publishes to the same server with it.

Run from the repository's root, after `node scripts/build.mjs`, in the environment of fixtures/requirements.txt:
  python packages/lora/test/python/check_publish.py
"""

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[4]
ADAPTER = ROOT / "fixtures/lora/llama/attention"
server = subprocess.Popen(
    ["node", "--no-warnings", "--loader", "ts-node/esm", str(Path(__file__).parent / "serve-hub.ts"), str(ADAPTER)],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
)  # fmt: skip
try:
    said = json.loads(server.stdout.readline())
    home = tempfile.TemporaryDirectory()
    os.environ |= {"HF_ENDPOINT": said["url"], "HF_TOKEN": said["token"], "HF_HOME": home.name, "HF_HUB_DISABLE_XET": "1"}
    from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
    from peft import PeftConfig

    api, report = HfApi(), said["report"]
    repo = report["repo"]
    info = api.model_info(repo)
    assert info.private is True and info.sha == report["commit"], info
    names = {file["path"]: file for file in report["files"]}
    assert set(api.list_repo_files(repo)) == set(names) | {".gitattributes"}
    for path, file in names.items():
        content = Path(hf_hub_download(repo, path)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"] and len(content) == file["size"], path
    weights = (ADAPTER / "adapter_model.safetensors").read_bytes()
    assert Path(hf_hub_download(repo, "adapter_model.safetensors")).read_bytes() == weights
    config = PeftConfig.from_pretrained(repo)
    assert config.r == 4 and config.base_model_name_or_path == "owner/llama", config
    card = ModelCard.load(repo)
    assert card.data.base_model == "mistralai/Mistral-7B-Instruct-v0.3", card.data
    assert card.data.language == ["en", "no"] and card.data.license == "apache-2.0", card.data
    assert card.data.library_name == "peft" and "base_model:adapter:mistralai/Mistral-7B-Instruct-v0.3" in card.data.tags
    print("read what MiraStral published:", ", ".join(sorted(names)))

    api.create_repo("me/second", private=True)
    commit = api.upload_folder(repo_id="me/second", folder_path=str(ADAPTER), commit_message="From Python")
    snapshot = Path(snapshot_download("me/second", revision=commit.oid))
    for path in ADAPTER.iterdir():
        assert (snapshot / path.name).read_bytes() == path.read_bytes(), path
    assert api.model_info("me/second").private is True
    print("published with huggingface_hub and read back:", ", ".join(sorted(p.name for p in ADAPTER.iterdir())))
finally:
    server.stdin.close()
    server.wait(timeout=20)
