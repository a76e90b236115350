"""The power of GPUs: shares of what their data sheets allow, fitted to public measurements, and joules a token.

    python benchmarks/power_law.py [--write]

The rows of `measured_power.csv` are runs of the ML.ENERGY leaderboard, version 3 (Chung et al., *The ML.ENERGY
Benchmark*, 2025; Apache-2.0; public/data/tasks/lm-arena-chat.json of ml-energy/leaderboard): dense models of our
catalogue under vLLM 0.11.1, kept at so many sequences of a text conversation, with output tokens a second and mean
power of all GPUs over the steady state, from 8 sequences to about 500. Prompts have 634 tokens on average (of that
task, as the leaderboard's authors say); for them the law of the iteration time gives d0 / tau of each row.

Fitted are a, b <= 1 in W [a d0/tau + b (1 - d0/tau)] by least squares of relative errors: for each GPU, and for GPUs
that are not measured, of both. Printed are the root mean squares of ln(predicted/measured), each model held out, each
GPU held out, and those of joules an output token: W times what the law says an output token takes, of one GPU of the
group.
"""

from __future__ import annotations

import argparse
import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import lsq_linear

from fluid.arrays import Floats
from fluid.hardware import power_law
from fluid.hardware.catalogue import find_gpu, find_model
from fluid.hardware.placement import Placement

PROMPT = 634  # tokens


@dataclass(frozen=True)
class Row:
    """One run: what was measured, and by the law the share of an iteration that is fixed, and seconds a token."""

    gpu: str
    model: str
    sequences: float
    watts: float
    joules: float
    fixed: float
    seconds: float

    @property
    def share(self) -> float:
        """Power of what the data sheet allows."""
        return self.watts / (find_gpu(self.gpu).tdp or 1)


def rows() -> list[Row]:
    """The runs, watts of one GPU, joules and seconds of one output token on one GPU of the group."""
    found = []
    with (Path(__file__).parent / "measured_power.csv").open(encoding="utf-8") as file:
        for each in csv.DictReader(file):
            n, rate, watts, output = (float(each[key]) for key in (
                "sequences", "output_tokens_per_s", "watts", "output_tokens"))
            gpus = int(each["gpus"])
            time = Placement(find_model(each["model"]), find_gpu(each["gpu"]), gpus,
                             weight_dtype=each["weight_dtype"]).time_by_law(PROMPT).iteration_time
            iteration = time(kv=n * (PROMPT + output / 2), prefill=n * PROMPT / output, size=n)
            found.append(Row(each["gpu"], each["model"], n, watts / gpus, watts / gpus / rate,
                             float(time.overheads[0]) / iteration, iteration / n))
    return found


def fitted(sample: list[Row]) -> Floats:
    """a and b."""
    share = np.array([row.share for row in sample])
    return np.asarray(lsq_linear(_design(sample) / share[:, None], np.ones(len(sample)), bounds=(0, 1)).x)


def _design(sample: list[Row]) -> Floats:
    fixed = np.array([row.fixed for row in sample])
    return np.stack([fixed, 1 - fixed], axis=1)


def errors(sample: list[Row], shares: Floats) -> Floats:
    """ln(predicted/measured) of the power of each run."""
    return np.log(_design(sample) @ shares / np.array([row.share for row in sample]))


def held_out(sample: list[Row], key: str) -> float:
    """Root mean square of the errors, each value of a field left out of the fit in turn."""
    values = sorted({getattr(row, key) for row in sample})
    left = [errors([row for row in sample if getattr(row, key) == value],
                   fitted([row for row in sample if getattr(row, key) != value])) for value in values]
    return _rms(np.concatenate(left))


def _rms(found: Floats) -> float:
    return float(np.sqrt(np.mean(found**2)))


def write(measured: dict[str, tuple[Floats, float]], others: tuple[Floats, float]) -> None:
    """Put the fit into fluid/hardware/power_law.py."""
    path = Path(power_law.__file__)
    said = {name: f"Shares({a:.3f}, {b:.3f}, {error:.3f})" for name, ((a, b), error) in
            {**measured, "": others}.items()}
    lines = "".join(f'    "{name}": {said[name]},\n' for name in measured)
    text = re.sub(r"MEASURED = \{\n.*?\}\nOTHERS = .*?\n", f"MEASURED = {{\n{lines}}}\nOTHERS = {said['']}\n",
                  path.read_text(encoding="utf-8"), flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the fit into fluid/hardware/power_law.py")
    every, measured = rows(), {}
    gpus = list(dict.fromkeys(row.gpu for row in every))
    print(f"{len(every)} runs; a constant share of the data sheet's power: "
          f"{_rms(np.log(np.mean([r.share for r in every]) / np.array([r.share for r in every]))):.1%} off")
    for gpu in gpus:
        mine = [row for row in every if row.gpu == gpu]
        shares = fitted(mine)
        measured[gpu] = shares, held_out(mine, "model")
        joules = errors(mine, shares) + np.log([row.seconds / row.joules * row.watts for row in mine])
        print(f"{gpu}: a = {shares[0]:.3f}, b = {shares[1]:.3f}; power {_rms(errors(mine, shares)):.1%} off, "
              f"models held out {measured[gpu][1]:.1%}; joules a token {_rms(joules):.1%} off, "
              f"{np.median(np.expm1(joules)):+.1%} in the median, {np.abs(np.expm1(joules)).max():.0%} at most")
        for model in dict.fromkeys(row.model for row in mine):
            some = [(row, error) for row, error in zip(mine, np.expm1(joules), strict=True) if row.model == model]
            print(f"  {model}: " + ", ".join(f"{row.sequences:.0f}: {row.joules * 1e3:.0f} mJ {error:+.0%}"
                                             for row, error in some))
    others = fitted(every), held_out(every, "gpu")
    print(f"both: a = {others[0][0]:.3f}, b = {others[0][1]:.3f}; GPUs held out {others[1]:.1%} off")
    if parser.parse_args().write:
        write(measured, others)


if __name__ == "__main__":
    main()
