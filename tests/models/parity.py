"""Asks a running server what transformers was asked, and compares answers and prompt tokens.

    python tests/models/parity.py BASE_URL FOLDER [MODEL ...]

FOLDER is what build.py printed; the server was started with its porthole.toml. Needs nothing but
Python. Exits with 1 where something differs that is not among the known differences; where one of
those is not exactly what its cause explains; and where a known difference is gone.
"""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

# Why answers differ, and whose: each cause was found in the source of mistral.rs 0.8.1 and is done
# in transformers too, by build.py, whose answer the engine must then give.
KNOWN = {
    "late_answer": "the engine counts the place of an answer's tokens from one past the last of the prompt",
    "large_grid": "the engine takes the grid of tiles that shows an image largest, even if it enlarges it",
    "wide_window": "the engine's sliding layers see one token more while they read a prompt",
}
DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"


def body(model, case, folder):
    images = iter(case["images"])

    def part(part):
        if part["type"] != "image":
            return part
        data = (folder / next(images)).read_bytes()
        kind = "jpeg" if data[:2] == b"\xff\xd8" else "png"
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}

    messages = [
        message if isinstance(message["content"], str) else message | {"content": [part(item) for item in message["content"]]}
        for message in case["messages"]
    ]
    return {"model": model, "messages": messages, "temperature": 0, "max_tokens": case.get("max_tokens", 256)}


def ask(base, request):
    data = json.dumps(request).encode()
    http = urllib.request.Request(f"{base}/v1/chat/completions", data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(http, timeout=300) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        return f"{error.code}: {json.load(error)['error']['message']}", None
    return answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens"]


def same(given, text, tokens):
    """Some tokenizers leave off the space that an answer begins with, some do not."""
    return tokens == given["prompt_tokens"] and text.strip() == given["answer"].strip()


def differences(case, text, tokens):
    """What differs, as words, and why it may; nothing where all is as it should be."""
    faulty = case.get("with_fault")
    fault = faulty and not same(case, faulty["answer"], faulty["prompt_tokens"]) and KNOWN[faulty["fault"]]
    if same(case, text, tokens):
        return (f"equal, but known to differ: {fault}", None) if fault else (None, None)
    found = f"{text[:90]!r} ({tokens} prompt tokens) instead of {case['answer'][:90]!r} ({case['prompt_tokens']})"
    return found, fault if fault and same(faulty, text, tokens) else None


def check(base, model, folder):
    """Asks every case of a model; gives the number that came out otherwise than expected."""
    cases = [case for case in json.loads((folder / "reference.json").read_text())["cases"] if not case.get("tools")]
    equal = known = 0
    for case in cases:
        found, why = differences(case, *ask(base, body(model, case, folder)))
        if found is None:
            equal += 1
            continue
        known += why is not None
        margin = f"smallest margin {case['smallest_logit_margin']}"
        print(f"{' ' if why else '!'} {model} {case['id']}: {found} ({why or margin})")
    wrong = len(cases) - equal - known
    print(f"{model}: {equal} of {len(cases)} equal, {known} differ as known, {wrong} wrong")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*")
    arguments = parser.parse_args()
    built = sorted(path.parent.name for path in arguments.folder.glob("*/reference.json"))
    wrong = 0
    for model in arguments.models or ["qwen3-vl", *built]:
        folder = DEMO if model == "qwen3-vl" else arguments.folder / model
        wrong += check(arguments.base_url.rstrip("/"), model, folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
