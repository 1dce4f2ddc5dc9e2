"""Writes a Qwen3-VL checkpoint of a published size with random bfloat16 weights.

    python deploy/cuda/make_checkpoint.py FOLDER [--size 8b|tiny] [--seed N]

It answers nonsense, but costs what the real one costs: same shapes, same bytes. So speed can be
measured where the real weights cannot be fetched. The tokenizer is the demonstration model's, whose
few words are all that is ever said, so that every answer runs to its last token. Weights are made
and written one shard at a time; 8b needs 18 GB of disk and 6 GB of memory.

The environment needs tests/models/requirements.txt.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
SHARD_BYTES = 4 << 30
# As in the config.json of Qwen/Qwen3-VL-8B-Instruct.
TEXT_8B = {
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 262144,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    "rope_theta": 5000000,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
}
VISION_8B = {
    "deepstack_visual_indexes": [8, 16, 24],
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "num_position_embeddings": 2304,
    "out_hidden_size": 4096,
}
# Small enough for any test; untied, as 8b is.
TEXT_TINY = {"tie_word_embeddings": False, "num_hidden_layers": 2}
VISION_TINY = {"deepstack_visual_indexes": [0], "depth": 2}
SIZES = {"8b": (TEXT_8B, VISION_8B), "tiny": (TEXT_TINY, VISION_TINY)}


def dump(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_config(folder, size):
    """The demonstration model's configuration, in the layout of the published ones, with other sizes."""
    text, vision = SIZES[size]
    config = json.loads((DEMO / "config.json").read_text())
    config["text_config"] |= text
    config["vision_config"] |= vision
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"]
    config["torch_dtype"] = "bfloat16"
    dump(folder / "config.json", config)
    preprocessor = json.loads((DEMO / "preprocessor_config.json").read_text())
    if size != "tiny":
        preprocessor["size"] = {"longest_edge": 16777216, "shortest_edge": 65536}
    dump(folder / "preprocessor_config.json", preprocessor)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.json", "vocab.json", "merges.txt"):
        shutil.copy(DEMO / name, folder / name)
    eos = config["text_config"]["eos_token_id"]
    dump(folder / "generation_config.json", {"do_sample": False, "eos_token_id": eos})


def sayable():
    """Tokens that are a space and letters: an answer of these is cut into the same tokens again."""
    vocabulary = json.loads((DEMO / "tokenizer.json").read_text())["model"]["vocab"]
    words = [id for token, id in vocabulary.items() if token[0] == "Ġ" and token[1:].isascii() and token[1:].isalpha()]
    return torch.tensor(words)


def weight(name, shape, generator, words):
    """Scaled so that activations keep their size through any number of layers."""

    def normal(shape, deviation):
        return torch.randn(shape, generator=generator) * deviation

    if name.startswith("lm_head"):
        made = torch.zeros(shape)
        made[words] = normal((len(words), shape[1]), 0.7)
        return made
    if "norm" in name:
        return normal(shape, 0.1) + (0.0 if name.endswith("bias") else 1.0)
    if len(shape) < 2:
        return normal(shape, 0.1)
    if "embed" in name and "patch" not in name:
        return normal(shape, 1.0)
    inputs = torch.Size(shape[1:]).numel()
    return normal(shape, inputs**-0.5)


def write_weights(folder, seed):
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = getattr(transformers, config.architectures[0])(config)
    generator = torch.Generator().manual_seed(seed)
    words = sayable()
    shards, shard, held = [], {}, 0
    for name, parameter in model.named_parameters():
        made = weight(name, parameter.shape, generator, words).to(torch.bfloat16)
        shard[name] = made
        held += made.numel() * 2
        if held >= SHARD_BYTES:
            shards.append(write_shard(folder, len(shards), shard))
            shard, held = {}, 0
    if shard:
        shards.append(write_shard(folder, len(shards), shard))
    # How many there are, which each name tells, is known only now.
    files = {}
    for index, (path, names, _) in enumerate(shards):
        file = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        path.rename(folder / file)
        files |= dict.fromkeys(names, file)
    total = sum(size for _, _, size in shards)
    dump(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": files})
    return total


def write_shard(folder, index, tensors):
    path = folder / f"shard-{index + 1}.part"
    save_file(tensors, path, metadata={"format": "pt"})
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    print(f"shard {index + 1}: {len(tensors)} tensors, {size / 1e9:.2f} GB", file=sys.stderr)
    return path, list(tensors), size


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="8b")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    write_config(arguments.folder, arguments.size)
    print(write_weights(arguments.folder, arguments.seed))


if __name__ == "__main__":
    main()
