"""Measures transformers on a checkpoint, for comparison with `porthole bench` on the same card.

    python deploy/cuda/transformers_speed.py FOLDER [--device cuda] [--batches 1,8,32] [--side 1024]
        [--tokens 128] [--json FILE]

For each batch size, with text and with one image of SIDE x SIDE pixels: seconds to the first token
(one token generated) and tokens a second after it, greedy, bfloat16. Needs
tests/models/requirements.txt.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import transformers
from PIL import Image

QUESTION = "Describe what you see, in as many words as you can find, and then what you do not see. " * 4


def batch_of(folder, size, side):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    part = {"type": "image"}
    content = ([part] if side else []) + [{"type": "text", "text": QUESTION}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    if not side:
        return tokenizer([text] * size, return_tensors="pt")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    # Every image another one, so that nothing is shared.
    images = [Image.effect_noise((side, side), 32 + i).convert("RGB") for i in range(size)]
    seen = processor(images=images, return_tensors="pt")
    pad = "<|image_pad|>"
    tokens = int(seen["image_grid_thw"][0].prod()) // processor.merge_size**2
    inputs = tokenizer([text.replace(pad, pad * tokens)] * size, return_tensors="pt")
    image = json.loads((folder / "config.json").read_text())["image_token_id"]
    kinds = (inputs["input_ids"] == image).long()
    return {**inputs, **seen, "mm_token_type_ids": kinds}


def seconds(model, inputs, tokens):
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@torch.inference_mode()
def measure(model, folder, size, side, tokens):
    inputs = {name: value.to(model.device) for name, value in batch_of(folder, size, side).items()}
    seconds(model, inputs, 2)
    first = min(seconds(model, inputs, 1) for _ in range(3))
    whole = min(seconds(model, inputs, tokens) for _ in range(2))
    return {
        "streams": size,
        "image": f"{side}x{side}" if side else None,
        "prompt_tokens": int(inputs["input_ids"].shape[1]),
        "time_to_first_token_s": round(first, 4),
        "tokens_per_s": round(size * (tokens - 1) / (whole - first), 1),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    config = transformers.AutoConfig.from_pretrained(arguments.folder)
    model_class = getattr(transformers, config.architectures[0])
    model = model_class.from_pretrained(arguments.folder, dtype=torch.bfloat16).to(arguments.device).eval()
    results = []
    for side in (0, arguments.side):
        for size in map(int, arguments.batches.split(",")):
            try:
                result = measure(model, arguments.folder, size, side, arguments.tokens)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                result = {"streams": size, "image": f"{side}x{side}" if side else None, "error": "out of memory"}
            results.append(result)
            print(json.dumps(result), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"transformers": transformers.__version__, "points": results}, indent=2))


if __name__ == "__main__":
    main()
