"""Asks a running server what transformers was asked, and compares answers and prompt tokens.

    python tests/models/parity.py BASE_URL FOLDER [MODEL ...]

FOLDER is what build.py printed; the server was started with its porthole.toml. Needs nothing but
Python. Prints the table that docs/models.md has.

Exits with 1 where something is otherwise than known.json says: an answer differs that is not in it;
one that is in it is right, or is not exactly the answer of its cause; cases are more or fewer; a
row of the table is not the one in docs/models.md.
"""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEMO = ROOT / "models" / "demo"
# The cases of each model, and which of them differ and why. Each cause was found in the source of
# mistral.rs 0.8.1 and is done in transformers too, by build.py, whose answer the engine must then give.
KNOWN = json.loads((HERE / "known.json").read_text())
# Quantised numbers are multiplied by the engine and unpacked by transformers, so logits differ: by
# less than this, and tokens only where two are closer than this.
QUANTISED = 0.6


def body(model, case, folder):
    """The request that a case is."""
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
    """The text of the answer, its number of prompt tokens, and the answer whole."""
    data = json.dumps(request).encode()
    http = urllib.request.Request(f"{base}/v1/chat/completions", data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(http, timeout=300) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        return f"{error.code}: {json.load(error)['error']['message']}", None, None
    return answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens"], answer


def same(given, text, tokens):
    """Some tokenizers leave off the space that an answer begins with, some do not."""
    return tokens == given["prompt_tokens"] and text.strip() == given["answer"].strip()


def instead(case, text, tokens):
    return f"{text[:90]!r} ({tokens} prompt tokens) instead of {case['answer'][:90]!r} ({case['prompt_tokens']})"


def problem(case, cause, text, tokens):
    """What is wrong with an answer of which it is known that it differs for CAUSE, or not at all."""
    if cause is None:
        return None if same(case, text, tokens) else instead(case, text, tokens)
    if same(case, text, tokens):
        return f"equal, but known.json says that it differs ({cause}): update it and docs/models.md"
    faulty = case.get("with_fault")
    if not faulty or faulty["fault"] != cause:
        return f"known.json says {cause}, which the reference does not have"
    if not same(faulty, text, tokens):
        return f"not what {cause} explains, {faulty['answer'][:90]!r}: {instead(case, text, tokens)}"
    return None


def exact(base, model, folder):
    """Asks every case of a model; gives the number of cases, of equal ones, and the problems."""
    known = KNOWN[model]["differ"]
    cases = [case for case in json.loads((folder / "reference.json").read_text())["cases"] if not case.get("tools")]
    problems = {}
    for case in cases:
        text, tokens, _ = ask(base, body(model, case, folder))
        why = known.get(str(case["id"]))
        if found := problem(case, why, text, tokens):
            margin = f"smallest margin {case['smallest_logit_margin']}"
            problems[case["id"]] = f"{found} ({margin})"
    for gone in known.keys() - {str(case["id"]) for case in cases}:
        problems[gone] = "known.json has it, the reference does not"
    return len(cases), len(cases) - len(known), problems


def quantised(base, model, folder):
    """The same for a model that is computed otherwise: how close it comes."""
    cases = json.loads((folder / "reference.json").read_text())["cases"]
    problems, equal, furthest = {}, 0, 0.0
    for case in cases:
        text, tokens, answer = ask(base, body(model, case, folder) | {"logprobs": True, "top_logprobs": 20})
        if tokens != case["prompt_tokens"]:
            problems[case["id"]] = instead(case, text, tokens)
            continue
        given = {one["token"]: one["logprob"] for one in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
        apart = max(abs(one["logprob"] - given.get(one["token"], -99)) for one in case["first"])
        furthest = max(furthest, apart)
        if apart > QUANTISED:
            problems[case["id"]] = f"a first token's logarithm of probability is {apart:.2f} off"
        if same(case, text, tokens):
            equal += 1
            continue
        # The token with which the answers part begins where they are last the same.
        step = max(step for step, before in enumerate(case["texts"]) if text.startswith(before))
        if case["margins"][step] > QUANTISED:
            margin = f"which led by {case['margins'][step]}"
            problems[case["id"]] = f"parts at token {step}, {margin}: {instead(case, text, tokens)}"
    print(f"{model}: {equal} of {len(cases)} answers equal, first tokens at most {furthest:.2f} apart")
    return len(cases), None, problems


def row(model, count, equal):
    """A model's line of the table in docs/models.md."""
    known = KNOWN[model]
    note = f", {known['note']}" if known["note"] else ""
    return f"| {known['title']} | {count} | {equal} | {count - equal}{note} |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*")
    arguments = parser.parse_args()
    docs = (ROOT / "docs" / "models.md").read_text()
    passed = failed = 0
    table = []
    for model in arguments.models or KNOWN:
        folder = DEMO if model == "qwen3-vl" else arguments.folder / model
        compare = quantised if KNOWN[model].get("quantised") else exact
        count, equal, problems = compare(arguments.base_url.rstrip("/"), model, folder)
        if count != KNOWN[model]["cases"]:
            problems["cases"] = f"{count}, and known.json says {KNOWN[model]['cases']}"
        if equal is not None:
            table.append(row(model, count, equal))
            if table[-1] not in docs:
                problems["docs/models.md"] = f"has no row {table[-1]}"
        for case, what in problems.items():
            print(f"! {model} {case}: {what}")
        failed += len(problems)
        passed += count - len(problems)
    print("\n".join(table))
    print(f"{max(passed, 0)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
