"""Makes a zoo: model repositories with the file names and the structure of real ones, and tiny random weights.

    make.py FOLDER

FOLDER/ORG/NAME is the main branch of a repository, FOLDER/ORG/NAME@BRANCH another one. The same versions of the libraries make the same files.
Needs torch, transformers and safetensors.
"""

import json
import pathlib
import struct
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM, BloomConfig, GPTNeoXConfig, LlamaConfig, MistralConfig, Olmo2Config, PreTrainedTokenizerFast, Qwen2Config,
)

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128, "max_position_embeddings": 64}
LICENCE = "A licence of its own: see the terms of the model.\n"


def write(folder, path, content):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_json(folder, path, content):
    write(folder, path, json.dumps(content, indent=2) + "\n")


def card(folder, title, **fields):
    head = "".join(f"{key}: {value}\n" for key, value in fields.items())
    write(folder, "README.md", f"---\n{head}---\n# {title}\n\nRandom weights.\n")
    write(folder, ".gitattributes", "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n")


def tensors(seed, count, shape=(16, 16), dtype=torch.bfloat16, name="tensor"):
    random = torch.Generator().manual_seed(seed)
    return {f"{name}.{index}": torch.rand(shape, generator=random).to(dtype) for index in range(count)}


def random_model(config, seed):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).to(torch.float32).eval()


def tokenizer(folder):
    words = {"[UNK]": 0, **{f"word{index}": index for index in range(1, 128)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(folder)


def pretrained(folder, config, seed, shard_size="16KB", tokens=True):
    """What `save_pretrained` writes: config, weights in shards with their index, generation config, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    random_model(config, seed).save_pretrained(folder, max_shard_size=shard_size)
    if tokens:
        tokenizer(folder)


def shards(folder, parts, pattern, index):
    """Weights by hand, where the names of the shards are not those that `save_pretrained` gives. `parts` holds a shard's tensors each."""
    for number, part in enumerate(parts):
        save_file(part, folder / pattern.format(number), metadata={"format": "pt"})
    places = {name: pattern.format(number) for number, part in enumerate(parts) for name in part}
    total = sum(tensor.numel() * tensor.element_size() for part in parts for tensor in part.values())
    write_json(folder, index, {"metadata": {"total_size": total}, "weight_map": places})


def spread(state, count):
    """A model's tensors over so many shards."""
    parts = [{} for _ in range(count)]
    for number, (name, tensor) in enumerate(state.items()):
        parts[number * count // len(state)][name] = tensor.clone().contiguous()
    return parts


def llama(root):
    folder = root / "meta-llama" / "Llama-3.1-8B"
    pretrained(folder, LlamaConfig(**SMALL, intermediate_size=64, num_key_value_heads=2), 1)
    card(folder, "Llama", license="llama3.1", pipeline_tag="text-generation", extra_gated_prompt="Say who you are.")
    write(folder, "LICENSE", LICENCE)
    write(folder, "USE_POLICY.md", "# Use policy\n")
    (folder / "original").mkdir()
    torch.save(tensors(1, 4), folder / "original" / "consolidated.00.pth")
    write_json(folder, "original/params.json", {"dim": 32, "n_layers": 2, "n_heads": 4})
    write(folder, "original/tokenizer.model", "IQ== 0\nIg== 1\n")


def mistral(root):
    folder = root / "mistralai" / "Mistral-7B-v0.3"
    pretrained(folder, MistralConfig(**SMALL, intermediate_size=64, num_key_value_heads=2), 2)
    card(folder, "Mistral", license="apache-2.0")
    save_file(tensors(2, 6), folder / "consolidated.safetensors")
    write_json(folder, "params.json", {"dim": 32, "n_layers": 2})
    write_json(folder, "tekken.json", {"config": {"version": "v3"}, "vocab": []})
    write(folder, "tokenizer.model.v3", bytes(range(256)))


def olmo(root):
    config = Olmo2Config(**SMALL, intermediate_size=64)
    branches = {"": 3, "@stage1-step1000-tokens3B": 31, "@stage1-step2000-tokens5B": 32, "@stage2-ingredient1-step100-tokens1B": 33}
    for branch, seed in branches.items():
        folder = root / "allenai" / f"OLMo-2-1124-7B{branch}"
        pretrained(folder, config, seed)
        card(folder, "OLMo", license="apache-2.0", datasets="allenai/dolmino-mix-1124")
        write(folder, "training/train.yaml", f"seed: {seed}\n")
        write(folder, "training/data-order.npy", b"\x93NUMPY" + seed.to_bytes(8, "little"))


def pythia(root):
    config = GPTNeoXConfig(**SMALL, intermediate_size=64)
    for branch, seed in {"": 4, "@step0": 40, "@step1000": 41, "@step143000": 4}.items():
        folder = root / "EleutherAI" / f"pythia-70m{branch}"
        pretrained(folder, config, seed, shard_size="1GB")
        card(folder, "Pythia", license="apache-2.0", tags="[pytorch, pythia]")
        state = {name: tensor.clone() for name, tensor in random_model(config, seed).state_dict().items()}
        torch.save(state, folder / "pytorch_model.bin")


def bloom(root):
    folder = root / "bigscience" / "bloom"
    config = BloomConfig(vocab_size=128, hidden_size=32, n_layer=6, n_head=4, tie_word_embeddings=True)
    folder.mkdir(parents=True)
    config.architectures = ["BloomForCausalLM"]
    config.save_pretrained(folder)
    tokenizer(folder)
    card(folder, "BLOOM", license="bigscience-bloom-rail-1.0")
    state = random_model(config, 5).state_dict()
    state.pop("lm_head.weight", None)
    parts = spread(state, 72)
    names = [f"model_{number:05}-of-00072.safetensors" for number in range(1, 73)]
    for name, part in zip(names, parts):
        save_file(part, folder / name, metadata={"format": "pt"})
        torch.save(part, folder / name.replace("model_", "pytorch_model_").replace(".safetensors", ".bin"))
    places = {tensor: name for name, part in zip(names, parts) for tensor in part}
    write_json(folder, "model.safetensors.index.json", {"metadata": {"total_size": 0}, "weight_map": places})
    places = {tensor: name.replace("model_", "pytorch_model_").replace(".safetensors", ".bin") for tensor, name in places.items()}
    write_json(folder, "pytorch_model.bin.index.json", {"metadata": {"total_size": 0}, "weight_map": places})


def stable_diffusion(root):
    folder = root / "stable-diffusion-v1-5" / "stable-diffusion-v1-5"
    folder.mkdir(parents=True)
    card(folder, "Stable Diffusion", license="creativeml-openrail-m")
    parts = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model", "safety_checker": "model"}
    write_json(folder, "model_index.json", {"_class_name": "StableDiffusionPipeline", **{part: ["diffusers", "X"] for part in parts}})
    for seed, (part, name) in enumerate(parts.items()):
        write_json(folder, f"{part}/config.json", {"_class_name": part})
        save_file(tensors(60 + seed, 3, dtype=torch.float32), folder / part / f"{name}.safetensors")
        save_file(tensors(60 + seed, 3, dtype=torch.float16), folder / part / f"{name}.fp16.safetensors")
    write_json(folder, "unet/nested/deeper/attention.json", {})
    write_json(folder, "scheduler/scheduler_config.json", {"_class_name": "PNDMScheduler"})
    write_json(folder, "tokenizer/vocab.json", {"a": 0})
    write(folder, "tokenizer/merges.txt", "#version: 0.2\n")
    save_file(tensors(69, 8), folder / "v1-5-pruned-emaonly.safetensors")


def gpt_oss(root):
    folder = root / "openai" / "gpt-oss-20b"
    folder.mkdir(parents=True)
    card(folder, "gpt-oss", license="apache-2.0")
    write_json(folder, "config.json", {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}})
    parts = []
    for layer in range(3):
        random = torch.Generator().manual_seed(70 + layer)
        name = f"model.layers.{layer}.mlp.experts.gate_up_proj"
        blocks = torch.randint(0, 256, (2, 8, 4, 16), generator=random, dtype=torch.uint8)
        scales = torch.randint(0, 256, (2, 8, 4), generator=random, dtype=torch.uint8)
        parts.append({f"{name}_blocks": blocks, f"{name}_scales": scales})
    shards(folder, parts, "model-{:05}-of-00002.safetensors", "model.safetensors.index.json")
    (folder / "original").mkdir()
    save_file(tensors(79, 3), folder / "original" / "model.safetensors")
    write_json(folder, "original/config.json", {"num_hidden_layers": 3})
    write(folder, "metal/model.bin", bytes(4096))
    write(folder, "chat_template.jinja", "{{ messages }}\n")


def deepseek(root):
    folder = root / "deepseek-ai" / "DeepSeek-V3"
    folder.mkdir(parents=True)
    card(folder, "DeepSeek", license="mit")
    write_json(folder, "config.json", {"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8"}})
    parts = []
    for shard in range(163):
        random = torch.Generator().manual_seed(800 + shard)
        weight = torch.rand((16, 16), generator=random).to(torch.float8_e4m3fn)
        scale = torch.rand((1, 1), generator=random)
        name = f"model.layers.{shard}.mlp.down_proj.weight"
        parts.append({name: weight, f"{name}_scale_inv": scale})
    for number, part in enumerate(parts, start=1):
        save_file(part, folder / f"model-{number:05}-of-000163.safetensors", metadata={"format": "pt"})
    places = {name: f"model-{number:05}-of-000163.safetensors" for number, part in enumerate(parts, start=1) for name in part}
    write_json(folder, "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    write(folder, "inference/model.py", "# how to run it\n")
    write(folder, "inference/configs/config_671B.json", "{}\n")
    write(folder, "figures/benchmark.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
    write(folder, "LICENSE-CODE", "MIT\n")
    write(folder, "LICENSE-MODEL", LICENCE)


def qwen(root):
    folder = root / "Qwen" / "Qwen2.5-7B-Instruct"
    pretrained(folder, Qwen2Config(**SMALL, intermediate_size=64, num_key_value_heads=2), 9)
    card(folder, "Qwen", license="apache-2.0", base_model="Qwen/Qwen2.5-7B")
    write_json(folder, "vocab.json", {"word1": 1})
    write(folder, "merges.txt", "")


QUANTISATIONS = "IQ3_M IQ4_XS Q2_K Q3_K_L Q3_K_M Q3_K_S Q4_0 Q4_K_M Q4_K_S Q5_K_M Q6_K Q8_0 f16".split()


def gguf_file(name, seed):
    """GGUF version 3: one text in the metadata, one tensor of 64 floats, data aligned to 32 bytes."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    metadata = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    metadata += text("general.name") + struct.pack("<I", 8) + text(name)
    tensor = text("token_embd.weight") + struct.pack("<IQIQ", 1, 64, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + metadata + tensor
    values = torch.rand(64, generator=torch.Generator().manual_seed(seed))
    return head + bytes(-len(head) % 32) + struct.pack("<64f", *values.tolist())


def gguf(root):
    folder = root / "bartowski" / "Llama-3.2-1B-Instruct-GGUF"
    for seed, name in enumerate(QUANTISATIONS):
        write(folder, f"Llama-3.2-1B-Instruct-{name}.gguf", gguf_file(name, 100 + seed))
    write(folder, "Llama-3.2-1B-Instruct.imatrix", bytes(512))
    card(folder, "GGUF", license="llama3.2", base_model="meta-llama/Llama-3.2-1B-Instruct", base_model_relation="quantized")


def lora(root):
    folder = root / "peft-zoo" / "llama-lora"
    folder.mkdir(parents=True)
    card(folder, "An adapter", license="apache-2.0", base_model="meta-llama/Llama-3.1-8B", base_model_relation="adapter", library_name="peft")
    write_json(folder, "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Llama-3.1-8B", "r": 4})
    pairs = {f"base_model.model.layers.{layer}.q_proj.lora_{side}.weight": torch.full((4, 32), 0.1 * layer)
             for layer in range(2) for side in "AB"}
    save_file(pairs, folder / "adapter_model.safetensors", metadata={"format": "pt"})


ANIMALS = [llama, mistral, olmo, pythia, bloom, stable_diffusion, gpt_oss, deepseek, qwen, gguf, lora]

if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    for animal in ANIMALS:
        animal(target)
