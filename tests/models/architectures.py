"""The architectures that are built small: their files as the published repositories have them.

mistral.rs 0.8.1 reads the layout of the repositories of before transformers 5: rope_theta and
rope_scaling in the text's configuration, preprocessor_config.json, and the older names of weights.
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from templates import GEMMA3, IDEFICS3, LLAVA, LLAVA_NEXT, QWEN2_5_VL

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_channels": 3,
    "patch_size": 14,
}
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]


@dataclass
class Architecture:
    """A kind of model, and how to write a small one."""

    name: str
    model_class: str
    template: str
    # Added to the demonstration model's tokens.
    special_tokens: list
    # With the sizes of the vocabulary and the ids of tokens filled in.
    config: callable
    preprocessor: dict
    processor: dict
    # From transformers' names of weights to the published ones: (pattern, replacement).
    renames: list
    bos: str | None = None
    eos: str = "<|im_end|>"
    # Weights whose last two dimensions the published repositories have the other way round: a pattern.
    transposed: str | None = None
    # Width and height of pictures: one that needs no resize, others that do.
    pictures: list = field(default_factory=list)
    # Most images a request.
    max_images: int = 2
    seed: int = 1
    # Fields of config.json that the engine needs otherwise.
    for_the_engine: dict = field(default_factory=dict)
    # What the engine is known to do otherwise: a way of reference.Reference to do it too.
    fault: str | None = None


def qwen3_vl_moe(ids, vocabulary):
    return {
        "tie_word_embeddings": False,
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
        "text_config": {
            **{key: value for key, value in TEXT.items() if key != "tie_word_embeddings"},
            "model_type": "qwen3_vl_moe_text",
            "vocab_size": vocabulary,
            "num_hidden_layers": 3,
            "head_dim": 16,
            "attention_bias": False,
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"},
            # One layer without experts, as the configuration allows.
            "mlp_only_layers": [1],
            "decoder_sparse_step": 1,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 48,
            "norm_topk_prob": True,
        },
        "vision_config": {
            "model_type": "qwen3_vl_moe",
            "depth": 3,
            "deepstack_visual_indexes": [0, 1],
            "hidden_size": 64,
            "out_hidden_size": 64,
            "hidden_act": "gelu_pytorch_tanh",
            "intermediate_size": 96,
            "num_heads": 4,
            "in_channels": 3,
            "num_position_embeddings": 64,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }


def qwen2_5_vl(ids, vocabulary):
    return {
        **TEXT,
        "vocab_size": vocabulary,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 2,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
        "vision_config": {
            "depth": 3,
            "hidden_size": 64,
            "out_hidden_size": 64,
            "hidden_act": "silu",
            "intermediate_size": 96,
            "num_heads": 4,
            "in_chans": 3,
            "in_channels": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
    }


def llava(ids, vocabulary):
    return {
        "image_token_index": ids("<image>"),
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
        "text_config": {**TEXT, "model_type": "llama", "vocab_size": vocabulary, "pad_token_id": 0},
        "vision_config": {
            **VISION,
            "model_type": "clip_vision_model",
            "image_size": 336,
            "projection_dim": 48,
            "vocab_size": 32,
        },
    }


def llava_next(ids, vocabulary):
    config = llava(ids, vocabulary)
    config["text_config"] |= {"model_type": "mistral", "sliding_window": None}
    config["image_grid_pinpoints"] = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    config["use_image_newline_parameter"] = True
    return config


def idefics3(ids, vocabulary):
    return {
        "image_token_id": ids("<image>"),
        "scale_factor": 2,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "text_config": {**TEXT, "model_type": "llama", "vocab_size": vocabulary, "pad_token_id": 0},
        "vision_config": {
            **VISION,
            "model_type": "idefics3_vision",
            "image_size": 364,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
    }


def gemma3(ids, vocabulary):
    text = {key: value for key, value in TEXT.items() if key != "hidden_act"}
    return {
        "image_token_index": ids("<image_soft_token>"),
        "boi_token_index": ids("<start_of_image>"),
        "eoi_token_index": ids("<end_of_image>"),
        "mm_tokens_per_image": 256,
        "tie_word_embeddings": False,
        "text_config": {
            **text,
            "model_type": "gemma3_text",
            "vocab_size": vocabulary,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "hidden_activation": "gelu_pytorch_tanh",
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "sliding_window": 1024,
            "sliding_window_pattern": 2,
        },
        "vision_config": {
            **VISION,
            "model_type": "siglip_vision_model",
            "image_size": 896,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
            "vision_use_head": False,
        },
    }


def with_window(gemma):
    """Gemma 3 with a window shorter than the prompts."""

    def config(ids, size):
        whole = gemma.config(ids, size)
        return whole | {"text_config": whole["text_config"] | {"sliding_window": 24}}

    return replace(gemma, name="gemma3-window", config=config, pictures=[], fault="wide_window")


CLIP_PREPROCESSOR = {
    "crop_size": {"height": 336, "width": 336},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 336},
}
# The engine counts the layers of the vision tower from the first one's output, transformers from
# its input: the same layer has another number.
LLAVA_FOR_THE_ENGINE = {"vision_feature_layer": -3}
LLAVA_RENAMES = [
    (r"^model\.vision_tower\.(vision_model\.)?", "vision_tower.vision_model."),
    (r"^model\.multi_modal_projector\.", "multi_modal_projector."),
    (r"^model\.image_newline$", "image_newline"),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
]

ARCHITECTURES = [
    Architecture(
        name="qwen3-vl-moe",
        model_class="Qwen3VLMoeForConditionalGeneration",
        # Qwen3-VL's, which the demonstration model has.
        template=json.loads((DEMO / "chat_template.json").read_text())["chat_template"],
        special_tokens=[],
        config=lambda ids, size: {"model_type": "qwen3_vl_moe", **qwen3_vl_moe(ids, size)},
        preprocessor={
            "size": {"longest_edge": 16777216, "shortest_edge": 65536},
            "patch_size": 16,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": HALF,
            "image_std": HALF,
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "processor_class": "Qwen3VLProcessor",
        },
        processor={},
        renames=[],
        transposed=r"\.mlp\.experts\.(gate_up_proj|down_proj)$",
        pictures=[(320, 256), (200, 350), (700, 140)],
    ),
    Architecture(
        name="qwen2.5-vl",
        model_class="Qwen2_5_VLForConditionalGeneration",
        template=QWEN2_5_VL,
        special_tokens=[],
        config=lambda ids, size: {"model_type": "qwen2_5_vl", **qwen2_5_vl(ids, size)},
        preprocessor={
            "min_pixels": 3136,
            "max_pixels": 12845056,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
        },
        processor={},
        renames=[
            (r"^model\.visual\.", "visual."),
            (r"^model\.language_model\.", "model."),
        ],
        pictures=[(224, 168), (200, 150), (700, 90)],
        fault="late_answer",
    ),
    Architecture(
        name="llava-1.5",
        model_class="LlavaForConditionalGeneration",
        template=LLAVA,
        special_tokens=["<unk>", "<s>", "</s>", "<image>"],
        config=lambda ids, size: {"model_type": "llava", **llava(ids, size)},
        # The published file crops the middle square; the authors, and the engine, pad instead.
        preprocessor={
            **CLIP_PREPROCESSOR,
            "do_pad": True,
            "image_processor_type": "LlavaImageProcessor",
            "processor_class": "LlavaProcessor",
        },
        processor={
            "processor_class": "LlavaProcessor",
            "image_token": "<image>",
            "patch_size": 14,
            "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default",
        },
        renames=LLAVA_RENAMES,
        bos="<s>",
        eos="</s>",
        pictures=[(336, 336), (500, 500), (672, 504)],
        max_images=1,
        for_the_engine=LLAVA_FOR_THE_ENGINE,
    ),
    Architecture(
        name="llava-next",
        model_class="LlavaNextForConditionalGeneration",
        template=LLAVA_NEXT,
        special_tokens=["<unk>", "<s>", "</s>", "<image>"],
        config=lambda ids, size: {"model_type": "llava_next", **llava_next(ids, size)},
        preprocessor={
            **CLIP_PREPROCESSOR,
            "do_pad": True,
            "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
            "image_processor_type": "LlavaNextImageProcessor",
            "processor_class": "LlavaNextProcessor",
        },
        processor={
            "processor_class": "LlavaNextProcessor",
            "image_token": "<image>",
            "patch_size": 14,
            "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default",
        },
        renames=LLAVA_RENAMES,
        bos="<s>",
        eos="</s>",
        pictures=[(672, 672), (900, 675), (300, 200)],
        fault="large_grid",
        max_images=1,
        for_the_engine=LLAVA_FOR_THE_ENGINE,
    ),
    Architecture(
        name="idefics3",
        model_class="Idefics3ForConditionalGeneration",
        template=IDEFICS3,
        special_tokens=[
            "<|begin_of_text|>",
            "<end_of_utterance>",
            "<fake_token_around_image>",
            "<global-img>",
            "<image>",
        ],
        config=lambda ids, size: {"model_type": "idefics3", **idefics3(ids, size)},
        preprocessor={
            "do_convert_rgb": True,
            # The published file has true here, which the engine does not survive.
            "do_image_splitting": False,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": HALF,
            "image_std": HALF,
            "max_image_size": {"longest_edge": 364},
            "resample": 1,
            "rescale_factor": 0.00392156862745098,
            "size": {"longest_edge": 1456},
            "image_processor_type": "Idefics3ImageProcessor",
            "processor_class": "Idefics3Processor",
        },
        processor={"processor_class": "Idefics3Processor", "image_seq_len": 169},
        renames=[],
        bos="<|begin_of_text|>",
        eos="<end_of_utterance>",
        pictures=[(1456, 1092), (640, 480), (300, 500)],
    ),
    Architecture(
        name="gemma3",
        model_class="Gemma3ForConditionalGeneration",
        template=GEMMA3,
        special_tokens=[
            "<bos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
        ],
        config=lambda ids, size: {"model_type": "gemma3", **gemma3(ids, size)},
        preprocessor={
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_pan_and_scan": None,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": HALF,
            "image_seq_length": 256,
            "image_std": HALF,
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": 896, "width": 896},
            "image_processor_type": "Gemma3ImageProcessor",
            "processor_class": "Gemma3Processor",
        },
        processor={"processor_class": "Gemma3Processor", "image_seq_length": 256},
        renames=[
            (r"^model\.vision_tower\.(vision_model\.)?", "vision_tower.vision_model."),
            (r"^model\.multi_modal_projector\.", "multi_modal_projector."),
            (r"^model\.language_model\.", "language_model.model."),
            (r"^lm_head\.", "language_model.lm_head."),
        ],
        bos="<bos>",
        eos="<end_of_turn>",
        pictures=[(896, 896), (500, 300), (1200, 900)],
    ),
]

# Prompts longer than the window of its sliding layers.
ARCHITECTURES.append(with_window(ARCHITECTURES[-1]))


def published_name(architecture, name):
    """The name that a weight of transformers has in the published repositories."""
    for pattern, replacement in architecture.renames:
        name, count = re.subn(pattern, replacement, name)
        if count:
            return name
    return name


def published_layout(architecture, name, tensor):
    """A weight of transformers as the published repositories have it."""
    if architecture.transposed and re.search(architecture.transposed, name):
        return tensor.transpose(1, 2)
    return tensor
