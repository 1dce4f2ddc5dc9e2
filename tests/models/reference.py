"""What transformers answers: the reference of the parity test."""

import random

import torch
import transformers
from PIL import Image, ImageDraw

# The models are so small that threads would cost more than they give.
torch.set_num_threads(1)

NEW_TOKENS = 24
LONG = "The picture shows a small blue circle on a white background, and a large red square near the left edge of it."
# The first of these with a wide margin is chosen: between two implementations logits differ a
# little, and an answer that hangs by a hair would tell nothing. questions.json has the chosen ones.
QUESTIONS = [
    "Describe this image in detail.",
    "Which shape is the largest?",
    "Which color is the background?",
    "How many circles are there?",
    "Is there a red square?",
    "Where is the blue star?",
    "Which digits are shown?",
    "What is near the left edge?",
    "Tell a story about it.",
    "List the objects.",
    "Compare the two.",
    "What may it be?",
]
WIDE_MARGIN = 0.15
LEAST_MARGIN = 0.07


def picture(width, height, seed):
    """Soft gradients and shapes: what a resize changes little, and no two alike."""
    rng = random.Random(seed)
    small = Image.new("RGB", (4, 4))
    small.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(16)])
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = rng.randrange(width), rng.randrange(height)
        side = max(8, min(width, height) // 3)
        colour = tuple(rng.randrange(256) for _ in range(3))
        draw.ellipse([x - side // 2, y - side // 2, x + side // 2, y + side // 2], fill=colour)
    return image


def user(*parts):
    """A turn of images and texts."""
    typed = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": "user", "content": typed}


def conversations(architecture, folder):
    """The cases of an architecture: a name, the conversation with a given question, its images."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    files = []
    for index, (width, height) in enumerate(architecture.pictures):
        file = f"images/{index}-{width}x{height}.png"
        picture(width, height, architecture.seed * 100 + index).save(folder / file)
        files.append(file)

    image = {"type": "image"}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "It is red."}]}
    cases = [
        ("text", lambda question: [user(question)], []),
        ("text-long", lambda question: [user(f"{LONG} {question}")], []),
        ("turns", lambda question: [user("Which color?"), answer, user(question)], []),
    ]
    for index, (file, size) in enumerate(zip(files, architecture.pictures)):
        name = "image" if index == 0 else "image-resized-{}x{}".format(*size)
        cases.append((name, lambda question: [user(image, question)], [file]))
    if files:
        cases.append(("image-after-text", lambda question: [user(question, image)], files[:1]))
    if len(files) > 1 and architecture.max_images > 1:
        cases.append(("two-images", lambda question: [user(image, image, question)], files[:2]))
    return cases


class Reference:
    """A model of transformers, loaded from the files that the engine loads too.

    Its faults are those of mistral.rs 0.8.1, each done on purpose: an answer of the engine that
    differs from the reference must equal the one with the fault, or the cause is another.
    """

    def __init__(self, architecture, folder):
        self.folder = folder
        self.processor = transformers.AutoProcessor.from_pretrained(folder)
        # Pillow's resize, which the gateway's equals.
        self.processor.image_processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        model_class = getattr(transformers, architecture.model_class)
        self.model, loading = model_class.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        problems = {key: value for key, value in loading.items() if value}
        if problems:
            raise SystemExit(f"{architecture.name}: weights do not fit: {problems}")
        self.model.eval()

    def late_answer(self):
        """Every token of an answer stands one place later than it should."""

        def move(module, args, named):
            if named["position_ids"].shape[-1] == 1:
                named = named | {"position_ids": named["position_ids"] + 1}
            return args, named

        self.model.model.language_model.register_forward_pre_hook(move, with_kwargs=True)

    def wide_window(self):
        """While the prompt is read, a window is one token longer than the configuration says."""
        config = self.model.config.get_text_config()
        window = config.sliding_window
        generate = self.model.generate

        def wider(**named):
            config.sliding_window = window
            cache = transformers.DynamicCache(config=config)
            config.sliding_window = window + 1
            return generate(**named, past_key_values=cache)

        self.model.generate = wider

    def large_grid(self):
        """Of the grids that tiles are laid out to, the one that shows an image largest is taken, even
        where the image is only enlarged for it."""

        def select(size, grids):
            height, width = size

            def shown(grid):
                scale = min(grid[0] / height, grid[1] / width)
                area = min(int(width * scale) * int(height * scale), grid[0] * grid[1])
                return area, area - grid[0] * grid[1]

            return max(grids, key=shown)

        from transformers.models.llava_next import image_processing_pil_llava_next as pixels
        from transformers.models.llava_next import modeling_llava_next as model
        from transformers.models.llava_next import processing_llava_next as text

        for module in (pixels, model, text):
            module.select_best_resolution = select

    def depends_on_images(self, name, messages, files):
        """Whether two images of one size get two answers; without that a test would show nothing."""
        if not files:
            return True
        path = self.folder / files[0]
        shown = path.read_bytes()
        before = self.ask(name, messages, files)["answer"]
        Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
        after = self.ask(name, messages, files)["answer"]
        path.write_bytes(shown)
        return before != after

    def choose(self, name, conversation, files):
        """The question of a conversation that is answered most decidedly."""
        best = chosen = None
        for question in QUESTIONS:
            case = self.ask(name, conversation(question), files)
            if best is None or case["smallest_logit_margin"] > best:
                best, chosen = case["smallest_logit_margin"], question
            if best >= WIDE_MARGIN:
                break
        return chosen

    @torch.no_grad()
    def ask(self, name, messages, files):
        """Asks a conversation; gives the case with its answer."""
        images = iter(files)
        shown = [
            {
                "role": message["role"],
                "content": [
                    {"type": "image", "image": Image.open(self.folder / next(images))} if part["type"] == "image" else part
                    for part in message["content"]
                ],
            }
            for message in messages
        ]
        rendered = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = self.processor.apply_chat_template(
            shown, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        prompt_tokens = inputs["input_ids"].shape[1]
        output = self.model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        tokens = output.sequences[0, prompt_tokens:].tolist()
        best = torch.stack([logits[0].topk(2).values for logits in output.logits])
        margins = best[:, 0] - best[:, 1]
        return {
            "id": name,
            "images": files,
            "messages": messages,
            "rendered": rendered,
            "prompt_tokens": prompt_tokens,
            "answer": self.processor.tokenizer.decode(tokens, skip_special_tokens=True),
            "tokens": tokens,
            "max_tokens": NEW_TOKENS,
            "smallest_logit_margin": round(margins.min().item(), 4),
        }
