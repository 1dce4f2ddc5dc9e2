"""Asks a server the demonstration model's reference questions, alone and all at once.

    python deploy/cuda/parity.py BASE_URL [--rounds N] [--model NAME]

Prints how many answers equal transformers' (models/demo/reference.json, float32) when asked one
after the other, how many when all are asked at once, and how many of the latter equal what the
server itself says alone. Exits with 1 where being together changes an answer, or, with --strict,
where one differs from transformers'. Needs nothing but Python.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "models"))
from parity import DEMO, ask, body, same  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--strict", action="store_true")
    arguments = parser.parse_args()
    base = arguments.base_url.rstrip("/")
    cases = [case for case in json.loads((DEMO / "reference.json").read_text())["cases"] if not case.get("tools")]
    requests = [body(arguments.model, case, DEMO) for case in cases]

    alone = [ask(base, request) for request in requests]
    equal = sum(same(case, *answer) for case, answer in zip(cases, alone))
    print(f"alone: {equal} of {len(cases)} equal transformers'")
    changed = 0
    with ThreadPoolExecutor(len(cases)) as pool:
        for number in range(arguments.rounds):
            together = list(pool.map(lambda request: ask(base, request), requests))
            as_reference = sum(same(case, *answer) for case, answer in zip(cases, together))
            as_alone = sum(one == other for one, other in zip(alone, together))
            changed += len(cases) - as_alone
            print(f"all at once, round {number + 1}: {as_reference} equal transformers', {as_alone} as alone")
            for case, one, other in zip(cases, alone, together):
                if one != other:
                    print(f"  {case['id']}: {other[0]!r} instead of {one[0]!r}")
    return 1 if changed or (arguments.strict and equal < len(cases)) else 0


if __name__ == "__main__":
    sys.exit(main())
