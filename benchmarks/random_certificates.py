"""Certificates of random deployments, each recomputed by the check of the documentation.

    python benchmarks/random_certificates.py [--number 300] [--seed 0]

A deployment is drawn: a cache of 200 to 300,000 tokens, up to three lines of the iteration time, every kind of prefill,
cache blocks, attention windows, limits of a batch, one to thirty types that share a prompt length or do not, lengths
known or not, and a set of rates. `fluidwait certify` makes the certificate, and the lines of docs/certificates.md are
run on it. Counted are those that do not hold; those whose windows carry more than nobody does; and those whose window
for the mix, which is sure and needs no length, carries more than `fluid.bounds.ignorance` allows. All three must be 0.
What is printed besides is how often each bound was there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import random
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fluidwait.deployment.deployment import parse
from fluidwait.reports.certificate import certificate_answer
from fluidwait.reports.console import to_text
from fluidwait.study.certified import SURE, Certified, certified
from fluidwait.study.possible import possible_rates

PAGE = Path(__file__).parents[1] / "docs" / "certificates.md"
SETS = ((0.0, None), (0.1, None), (0.3, "ellipsoid"), (2.0, "box"))


def drawn(draw: random.Random) -> str:
    """A deployment file."""
    capacity = int(10 ** draw.uniform(2.3, 5.5))
    keys = [f"kv_capacity = {capacity}", f"block = {draw.choice([1, 1, 4, 16])}"]
    for key, values, share in (("max_num_seqs", [1, 4, 32, 256], 0.3), ("max_num_batched_tokens", [256, 4096], 0.3),
                               ("first_token", ['"prefill"'], 0.3), ("attention_window", [32, 128], 0.25),
                               ("prefill", ['"decode-only"', "{ chunk = 16 }", "{ chunk = 256 }"], 0.5)):
        if draw.random() < share:
            keys.append(f"{key} = {draw.choice(values)}")
    if "attention_window" in keys[-1] and draw.random() < 0.5:
        keys.append("windowed_layers = { windowed = 5, layers = 6 }")
    lines = ", ".join(_line(draw) for _ in range(draw.choice([1, 1, 2, 3])))
    unknown = '[workload]\nlengths = "unknown"\n' if draw.random() < 0.5 else ""
    shared, most = int(10 ** draw.uniform(0, math.log10(capacity / 2))), min(capacity / 2, 800)
    types = []
    for k in range(draw.choice([1, 2, 3, 5, 30])):
        prompt = shared if draw.random() < 0.7 else int(10 ** draw.uniform(0, math.log10(capacity / 2)))
        output = max(2, int(10 ** draw.uniform(0.4, math.log10(most))))
        types.append(f'[[workload.type]]\nname = "{k}"\nprompt_tokens = {prompt}\noutput_tokens = {output}\n'
                     f"rate = {10 ** draw.uniform(-2, 1):.3g}\n")
    return "\n".join(["[replica]", *keys, "[replica.iteration_time]", f"pieces = [ {lines} ]", unknown, *types])


def _line(draw: random.Random) -> str:
    slopes = {"per_kv_token": (-8, -5, 0.8), "per_prefill_token": (-6, -4, 0.6), "per_sequence": (-6, -4, 0.4)}
    told = [f"{key} = {10 ** draw.uniform(low, high) if draw.random() < share else 0.0:.3g}"
            for key, (low, high, share) in slopes.items()]
    return f"{{ overhead = {10 ** draw.uniform(-2.5, -1.5):.4g}, {', '.join(told)} }}"


def complaint(found: Certified, check: Any, path: Path) -> str:
    """What is wrong with a certificate; nothing where it holds."""
    path.write_text(to_text(certificate_answer(found)), encoding="utf-8")
    argv, sys.argv = sys.argv, ["check.py", str(path)]
    try:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            exec(check, {})
    except Exception as error:
        return f"the check says {type(error).__name__}: {error}"
    finally:
        sys.argv = argv
    if found.below > found.limit * (1 + 1e-9):
        return f"{found.below} is carried, {found.limit} impossible"
    bound = min((each.factor for each in found.above if each.of == SURE), default=math.inf)
    if found.sure is not None and not found.sure.by_type and found.sure.factor > bound * (1 + 1e-9):
        return f"{found.sure.factor} is carried for sure, {bound} impossible"
    return ""


def main() -> int:
    """Draw, certify, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8").split("## The check", 1)[1]
    check = compile("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), "check.py", "exec")
    wrong, bounds = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seed, arguments.seed + arguments.number):
            draw = random.Random(seed)
            deployment, (within, name) = parse(drawn(draw).encode(), f"seed {seed}"), draw.choice(SETS)
            found = certified(deployment, possible_rates(deployment, name, within, None))
            said = complaint(found, check, Path(folder) / "certificate.json")
            if said:
                wrong, _ = wrong + 1, print(f"seed {seed}: {said}")
            bounds.update({each.of for each in found.above} | {
                "packing" if each.packed else "prices" if each.prices else each.limit for each in found.above})
    print(f"certificates that do not hold: {wrong} of {arguments.number}; bounds: {dict(bounds)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
