"""What transformers answers with the weights of a GGUF file, unpacked to float32."""

import torch
import transformers

NEW_TOKENS = 24
QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Name three colours.",
    "Wie heißt die Hauptstadt von Österreich?",
    "What is two plus two?",
    "Tell me a story about a small boat and a large storm, in which nobody is lost and everybody comes home.",
]
# Likeliest first tokens whose probabilities are compared.
TOP = 5


class GgufReference:
    """A text model, loaded from the file that the engine loads too."""

    def __init__(self, file):
        named = {"gguf_file": file.name}
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **named)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, **named, dtype=torch.float32, attn_implementation="eager"
        )
        self.model = model.eval()

    @torch.no_grad()
    def case(self, name, question):
        """Asks a question; gives the case with its answer."""
        messages = [{"role": "user", "content": question}]
        inputs = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        prompt_tokens = inputs["input_ids"].shape[1]
        output = self.model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        tokens = output.sequences[0, prompt_tokens:].tolist()
        best = torch.stack([logits[0].topk(2).values for logits in output.logits])
        first = output.logits[0][0].log_softmax(-1).topk(TOP)
        return {
            "id": name,
            "images": [],
            "messages": messages,
            "prompt_tokens": prompt_tokens,
            "answer": self.tokenizer.decode(tokens, skip_special_tokens=True),
            "max_tokens": NEW_TOKENS,
            # The text that each token begins after, and by how much its token was the likeliest.
            "texts": [self.tokenizer.decode(tokens[:end], skip_special_tokens=True) for end in range(len(tokens))],
            "margins": [round(margin, 4) for margin in (best[:, 0] - best[:, 1]).tolist()],
            "first": [
                {"token": self.tokenizer.decode([token]), "logprob": round(logprob, 4)}
                for logprob, token in zip(first.values.tolist(), first.indices.tolist())
            ],
        }

    def cases(self):
        """All cases."""
        return [self.case(f"text-{index}", question) for index, question in enumerate(QUESTIONS)]
