"""Loads models as their users do and compares them with the files that they were made from.

    load.py ZOO < REQUESTS

ZOO is the folder that make.py made. A request is a line of JSON: {"repo", "revision", "folder"?, "include"?}. With "folder" the model is in that
folder; without, the client gets it: from HF_ENDPOINT, or from its cache if HF_HUB_OFFLINE is set. An answer is a line of JSON: {"repo", "revision",
"loader", "files", "error"?}.
"""

import fnmatch
import json
import os
import pathlib
import struct
import sys

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
CAUSAL = {"llama", "mistral", "olmo2", "gpt_neox", "bloom", "qwen2"}


def need(condition, why):
    if not condition:
        raise AssertionError(why)


def same_files(found, expected, include):
    names = {path.relative_to(expected).as_posix() for path in expected.rglob("*") if path.is_file()}
    if include:
        names = {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in include)}
    there = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file() and ".cache" not in path.parts}
    need(there == names, f"missing {sorted(names - there)[:3]}, unexpected {sorted(there - names)[:3]}")
    for name in names:
        need((found / name).read_bytes() == (expected / name).read_bytes(), f"{name} differs")
    return names


def same_tensors(found, expected, what):
    need(found.keys() == expected.keys(), f"{what}: other tensors")
    for name, tensor in expected.items():
        need(found[name].dtype == tensor.dtype and torch.equal(raw(found[name]), raw(tensor)), f"{what}: {name} differs")


def raw(tensor):
    return tensor.contiguous().view(torch.uint8)


def gguf_tensors(path):
    """The tensors of a GGUF file of version 3 that has texts only in its metadata and only 32-bit floats in its tensors."""
    data = path.read_bytes()
    magic, version, count, entries = struct.unpack_from("<4sIQQ", data)
    need(magic == b"GGUF" and version == 3, "no GGUF file")
    at = 24

    def text():
        nonlocal at
        (length,) = struct.unpack_from("<Q", data, at)
        at += 8 + length
        return data[at - length:at].decode()

    for _ in range(entries):
        text()
        at += 4
        text()
    found = {}
    for _ in range(count):
        name = text()
        dimensions, length, _, offset = struct.unpack_from("<IQIQ", data, at)
        at += 24
        found[name] = (length, offset)
    start = at + -at % 32
    return {name: torch.tensor(struct.unpack_from(f"<{length}f", data, start + offset)) for name, (length, offset) in found.items()}


def weights(folder, names):
    """Every file with weights that a library can read, read by it."""
    read = {".safetensors": load_file, ".gguf": gguf_tensors}
    for name in sorted(names):
        path = folder / name
        if path.suffix in read:
            yield name, read[path.suffix](path)
        elif path.suffix in (".pth", ".bin") and path.read_bytes()[:2] == b"PK":
            yield name, torch.load(path, weights_only=True)


def logits(model):
    with torch.no_grad():
        return model(torch.arange(1, 17).unsqueeze(0)).logits


def load(zoo, request):
    repo, revision, include = request["repo"], request["revision"], request.get("include")
    expected = zoo / (repo if revision == "main" else f"{repo}@{revision}")
    folder = request.get("folder") or snapshot_download(repo, revision=revision, allow_patterns=include)
    names = same_files(pathlib.Path(folder), expected, include)
    count = 0
    for (name, found), (_, wanted) in zip(weights(pathlib.Path(folder), names), weights(expected, names)):
        same_tensors(found, wanted, name)
        count += 1
    loader = "safetensors"
    config = expected / "config.json"
    if config.exists() and json.loads(config.read_text()).get("model_type") in CAUSAL:
        # By name where the client has to find it, from the folder otherwise.
        where = {"pretrained_model_name_or_path": folder} if "folder" in request else \
            {"pretrained_model_name_or_path": repo, "revision": revision}
        found, wanted = AutoModelForCausalLM.from_pretrained(**where), AutoModelForCausalLM.from_pretrained(expected)
        need(torch.equal(logits(found), logits(wanted)), "the model answers otherwise")
        loader = type(found).__name__
        found, wanted = AutoTokenizer.from_pretrained(**where), AutoTokenizer.from_pretrained(expected)
        need(found.get_vocab() == wanted.get_vocab(), "the tokenizer knows other words")
    elif include and any(name.endswith(".gguf") for name in names):
        loader = "gguf"
    need(count > 0 or loader != "safetensors", "nothing to load")
    return {"loader": loader, "files": len(names)}


def main():
    zoo = pathlib.Path(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"repo": request["repo"], "revision": request["revision"]}
        try:
            answer |= load(zoo, request)
        except Exception as error:  # Whatever it is, it is this model's answer, and the next one is tried.
            answer |= {"loader": "", "files": 0, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    # A client that asks the real hub would hang for minutes.
    need("HF_ENDPOINT" in os.environ or os.environ.get("HF_HUB_OFFLINE") == "1", "set HF_ENDPOINT or HF_HUB_OFFLINE=1")
    main()
