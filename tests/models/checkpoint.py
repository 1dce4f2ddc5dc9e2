"""Writes a small checkpoint with random weights in the layout of the published repositories."""

import json
import re
import shutil

import torch
import transformers
from safetensors.torch import save_file

from architectures import published_layout, published_name


def dump(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_tokenizer(architecture, demo, folder):
    """The demonstration model's tokenizer with the architecture's tokens; gives its ids."""
    tokenizer = json.loads((demo / "tokenizer.json").read_text())
    added = tokenizer["added_tokens"]
    unknown = "<unk>" if "<unk>" in architecture.special_tokens else None
    if unknown:
        make_first(tokenizer["model"], unknown)
    for content in architecture.special_tokens:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        id = 0 if content == unknown else max(token["id"] for token in added) + 1
        added.append({"id": id, "content": content, **flags, "special": True})
    ids = {token["content"]: token["id"] for token in added}
    if architecture.bos:
        bos = {"SpecialToken": {"id": architecture.bos, "type_id": 0}}
        known = {"id": architecture.bos, "ids": [ids[architecture.bos]], "tokens": [architecture.bos]}
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {architecture.bos: known},
        }
    dump(folder / "tokenizer.json", tokenizer)
    settings = {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added
        },
        "bos_token": architecture.bos,
        "chat_template": architecture.template,
        "clean_up_tokenization_spaces": False,
        "eos_token": architecture.eos,
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": unknown,
    }
    if "<start_of_image>" in architecture.special_tokens:
        extra = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
        settings |= {**extra, "extra_special_tokens": extra}
    dump(folder / "tokenizer_config.json", settings)
    dump(folder / "chat_template.json", {"chat_template": architecture.template})
    return ids, tokenizer["model"]["vocab"]


def make_first(model, token):
    """Gives a token the id 0, as Llama's vocabularies have it, in place of the exclamation mark."""
    model["vocab"] = {token if id == 0 else text: id for text, id in model["vocab"].items()}
    model["merges"] = [pair for pair in model["merges"] if "!" not in "".join(pair)]
    model["unk_token"] = token


def words(vocabulary):
    """Ids of the tokens that are a space and letters. Answers are made of these alone: such a text
    is cut into the same tokens again, which the engine does at every step of an answer about
    images."""
    return [
        id
        for token, id in vocabulary.items()
        if token[0] == "Ġ" and len(token) > 3 and token[1:].isascii() and token[1:].isalpha()
    ]


@torch.no_grad()
def randomize(model, seed, sayable):
    """Weights large enough that answers depend on every token, and margins are wide."""
    generator = torch.Generator().manual_seed(seed)
    gemma = "Gemma" in type(model).__name__

    def normal(shape, deviation):
        return torch.randn(shape, generator=generator) * deviation

    for name, weight in sorted(model.named_parameters()):
        inputs = weight.shape[0] if weight.dim() < 2 else weight[0].numel()
        if ".experts." in name:
            inputs = weight.shape[-1]
        if name.startswith("lm_head"):
            weight.zero_()
            weight[sayable] = normal((len(sayable), weight.shape[1]), 0.7)
        elif "norm" in name or "ln_q" in name or "layrnorm" in name:
            # Gemma adds one to what is stored.
            around = 0.0 if name.endswith("bias") else 1.0 - one_is_added(model, name)
            if "q_norm" in name or "k_norm" in name:
                around += 0.8
            weight.copy_(around + normal(weight.shape, 0.1))
        elif weight.dim() < 2:
            weight.copy_(normal(weight.shape, 0.1))
        elif "position_embed" in name or "pos_embed" in name:
            weight.copy_(normal(weight.shape, 0.3))
        elif "embed" in name and "patch" not in name:
            # Gemma multiplies its embeddings by the root of their length.
            weight.copy_(normal(weight.shape, 1 / inputs**0.5 if gemma else 1.0))
        elif "q_proj" in name or "k_proj" in name:
            # Attention that picks, so that it matters what stands where.
            weight.copy_(normal(weight.shape, 1.6 / inputs**0.5))
        else:
            weight.copy_(normal(weight.shape, 1.2 / inputs**0.5))


def one_is_added(model, name):
    return "Gemma3RMSNorm" in type(model.get_submodule(name.rpartition(".")[0])).__name__


def write(architecture, demo, folder):
    """Writes everything of a model but its reference."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids, vocabulary = write_tokenizer(architecture, demo, folder)
    size = -(-(max(ids.values()) + 1) // 64) * 64
    config = {
        "architectures": [architecture.model_class],
        "torch_dtype": "float32",
        "bos_token_id": ids.get(architecture.bos, ids["<|endoftext|>"]),
        "eos_token_id": ids[architecture.eos],
        **architecture.config(ids.__getitem__, size),
    }
    dump(folder / "config.json", config)
    dump(folder / "generation_config.json", {"do_sample": False, "eos_token_id": ids[architecture.eos]})
    dump(folder / "preprocessor_config.json", architecture.preprocessor)
    if architecture.processor:
        dump(folder / "processor_config.json", architecture.processor)

    torch.manual_seed(architecture.seed)
    model_class = getattr(transformers, architecture.model_class)
    model = model_class(transformers.AutoConfig.from_pretrained(folder)).float()
    randomize(model, architecture.seed, words(vocabulary))
    tensors = {
        published_name(architecture, name): published_layout(architecture, name, tensor.detach()).clone().contiguous()
        for name, tensor in model.named_parameters()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def adjust(architecture, folder):
    """Changes what the engine reads otherwise than transformers does; docs/models.md says why, under
    LLaVA."""
    path = folder / "config.json"
    dump(path, json.loads(path.read_text()) | architecture.for_the_engine)
    if "<unk>" in architecture.special_tokens:
        swap(folder / "tokenizer.json", "<unk>", "<image>")
        swap(folder / "tokenizer_config.json", "<unk>", "<image>")


def swap(path, one, other):
    """Gives two tokens each other's ids; what is in a chat template stays."""
    pattern = re.compile(f'"({re.escape(one)}|{re.escape(other)})"')
    text = pattern.sub(lambda match: f'"{other if match[1] == one else one}"', path.read_text())
    path.write_text(text)
