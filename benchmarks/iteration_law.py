"""The law of the iteration time: fitted to public measurements, and scored with GPUs, models and t held out.

    python benchmarks/iteration_law.py [--write]        needs pip install '.[kernels]'

The rows (`systems/silicon_sample.csv` of the installed package aiconfigurator-core) are closed-loop runs of engines: c
requests at a time of l + o tokens on t GPUs, with mean TTFT and TPOT. By Little's law n = c (o - 1) TPOT / (TTFT +
(o - 1) TPOT) of them decode, or as many as the KV cache holds, each with a context of l + o/2 on average, and n/(o - 1)
prompts of l tokens are prefilled in an iteration, whose mean time TPOT is. Lengths of the InferenceMAX runs
(Llama-3.1-70B) are drawn from 0.8 to 1 of those named, and their KV cache is in 8 bits; rows that name no type of the
weights are in 16. Left out: GB200 (20 rows; most name no type and differ by a factor of five among themselves), 1 row
of B200, and 21 of Llama-3.1-8B in 8 bits under vLLM, whose TPOT does not depend on prefills at all.

The fit minimises Huber's loss of predicted/measured - 1. A score predicts TPOT from c, l, o, t and the TTFT measured
(n follows from the prediction), with the rows of one group held out of the fit. "Sheet" is the roofline this package
had before: 0.64 of the bandwidth, 0.72 of the 16-bit arithmetic.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from fluid.hardware import iteration_law
from fluid.hardware.catalogue import GIB, Gpu, find_gpu, find_model
from fluid.hardware.model import Model

QWEN3_32B = Model("qwen3-32b", 64, 5120, 64, 8, 128, 25600, 151936, qk_norm=True)
MODELS = {"meta-llama/Llama-3.1-70B": find_model("llama-3.1-70b"), "Qwen/Qwen3-32B": QWEN3_32B,
          "meta-llama/Llama-3.1-8B-Instruct": find_model("llama-3.1-8b"),
          "nvidia/Llama-3.1-8B-Instruct-FP8": find_model("llama-3.1-8b")}
GPUS = {"h100_sxm": find_gpu("h100-80gb"), "h200_sxm": find_gpu("h200"), "b200_sxm": find_gpu("b200")}
BITS = {"fp8": 8, "fp8_block": 8, "nvfp4": 4}
HUBER = 1.345


@dataclass(frozen=True)
class Row:
    """One measured run: the machine, the load, and the mean times in seconds."""

    model: Model
    system: str
    engine: str
    gpus: int
    bits: int
    prompt: float
    output: float
    concurrency: float
    ttft: float
    tpot: float
    source: str

    @property
    def gpu(self) -> Gpu:
        return GPUS[self.system]

    @property
    def machine(self) -> str:
        return f"{self.model.name} {self.system} {self.engine} {self.gpus} {self.bits}"

    @property
    def kv_bytes(self) -> float:
        eight = self.model.name == "llama-3.1-70b"
        return self.model.kv_elements * max(1, self.gpus // self.model.kv_heads) * (1 if eight else 2)

    def weights(self, parameters: int, embeddings: int) -> float:
        """Bytes, the embeddings in 16 bits; 4 bits with a scale of 8 for every 16."""
        bits = 4.5 if self.bits == 4 else self.bits
        wide = embeddings * self.model.embedding
        return ((parameters - wide) * bits + wide * 16) / 8

    @property
    def most(self) -> float:
        """Sequences that fit in the KV cache: 90% of the memory less the weights and 2 GiB."""
        usable = 0.9 * self.gpu.memory_bytes - 2 * GIB
        copies = 2 - self.model.tied_embeddings
        free = self.gpus * usable - self.weights(self.model.parameters, copies)
        return free / self.kv_bytes / (self.prompt + self.output / 2)

    def batch(self, tpot: float) -> np.ndarray:
        """The mean batch (1, KV, prefill, sequences) at a time per output token."""
        decoding = (self.output - 1) * tpot
        n = min(self.concurrency * decoding / (self.ttft + decoding), self.most)
        entering = n / (self.output - 1)
        return np.array([1.0, n * (self.prompt + self.output / 2) + entering * self.prompt, entering * self.prompt,
                         n + entering])

    def costs(self) -> np.ndarray:
        return iteration_law.costs(self.model, self.gpu, gpus=self.gpus, kv_bytes=self.kv_bytes,
                                   bytes_read=self.weights(self.model.parameters_read, 1), multiplies_in=self.bits,
                                   prompt_tokens=self.prompt)


def measured() -> list[Row]:
    """The rows of dense models that are used."""
    path = files("aiconfigurator_core") / "systems" / "silicon_sample.csv"
    with path.open(encoding="utf-8") as file:
        return [row for record in csv.DictReader(file) if (row := _row(record)) is not None]


def _row(record: dict[str, str]) -> Row | None:
    static = record["backend"] == "vllm" and record["model_path"].startswith("nvidia/")
    if record["model_path"] not in MODELS or record["system"] not in GPUS or record["mode"] != "agg" or static:
        return None
    model = MODELS[record["model_path"]]
    drawn = 0.9 if model.name == "llama-3.1-70b" else 1.0
    return Row(model, record["system"], record["backend"], int(float(record["tp_size"])),
               BITS.get(record["gemm_quant_mode"], 16), drawn * float(record["isl"]), drawn * float(record["osl"]),
               float(record["batch_size"]), float(record["silicon_ttft_ms"]) / 1000,
               float(record["silicon_tpot_ms"]) / 1000, record["silicon_data_source"])


@dataclass(frozen=True)
class Design:
    """The rows as a regression: measured seconds y, the part the sheet fixes, and the features of what is fitted."""

    y: np.ndarray
    sheet: np.ndarray
    features: np.ndarray
    clusters: np.ndarray

    @classmethod
    def of(cls, rows: list[Row]) -> Design:
        terms = np.array([row.batch(row.tpot) @ row.costs() for row in rows])
        vllm = np.array([row.engine == "vllm" for row in rows])
        fitted = np.column_stack([terms[:, 3], terms[:, 4] * vllm, terms[:, 4] * ~vllm, terms[:, 5], terms[:, 6]])
        return cls(np.array([row.tpot for row in rows]), terms[:, :3].sum(axis=1), fitted,
                   np.array([row.machine for row in rows]))

    def fit(self, use: np.ndarray) -> np.ndarray:
        """The coefficients of FITTED that minimise Huber's loss over the rows to use, none below 0."""
        features, sheet = self.features[use] / self.y[use, None], self.sheet[use] / self.y[use]
        unit = 1 / features.mean(axis=0).clip(1e-30)

        def loss(scale: float, start: np.ndarray) -> np.ndarray:
            return least_squares(lambda x: sheet + features @ (x * unit) - 1, start, bounds=(0, np.inf), loss="huber",
                                 f_scale=HUBER * scale, xtol=1e-12, ftol=1e-12).x

        x, scale = np.full(len(unit), 0.1), 0.1
        for _ in range(8):
            x = loss(scale, x)
            scale = 1.4826 * float(np.median(np.abs(sheet + features @ (x * unit) - 1)))
        return x * unit

    def covariance(self, values: np.ndarray) -> np.ndarray:
        """The sandwich over clusters: A^-1 (sum_g s_g s_g') A^-1 g/(g - 1)."""
        residual = (self.sheet + self.features @ values) / self.y - 1
        z, scale = self.features / self.y[:, None], HUBER * 1.4826 * float(np.median(np.abs(residual)))
        bread = np.linalg.inv((z * (np.abs(residual) < scale)[:, None]).T @ z)
        score = z * np.clip(residual, -scale, scale)[:, None]
        sums = np.array([score[self.clusters == name].sum(axis=0) for name in np.unique(self.clusters)])
        return bread @ sums.T @ sums @ bread * len(sums) / (len(sums) - 1)


def predicted(row: Row, values: np.ndarray) -> float:
    """TPOT by the law, with the batch that it implies."""
    return solved(row, row.costs() @ iteration_law.coefficients(row.engine, values))


def by_sheet(row: Row) -> float:
    """TPOT by the roofline of before: no cost per sequence, arithmetic in 16 bits."""
    costs = row.costs()
    compute = costs[2, 2] * row.gpu.speedup(row.bits) / 0.72
    return solved(row, np.array([costs[0, 0] / 0.64, costs[1, 1] / 0.64, compute, 0.0]))


def solved(row: Row, line: np.ndarray) -> float:
    """The time per token at which the batch that follows from it takes that time."""
    tpot = row.tpot
    for _ in range(60):
        tpot = 0.5 * (tpot + float(line @ row.batch(tpot)))
    return tpot


def held_out(rows: list[Row], design: Design, group: Callable[[Row], object]) -> Iterator[tuple[object, np.ndarray]]:
    """For every group: ln(predicted/measured) of its rows, from a fit to the others."""
    names = [group(row) for row in rows]
    for name in dict.fromkeys(names):
        mine = np.array([each == name for each in names])
        values = design.fit(~mine)
        yield name, np.array([np.log(predicted(row, values) / row.tpot)
                              for row, own in zip(rows, mine, strict=True) if own])


def score(logs: np.ndarray) -> str:
    errors = 100 * np.abs(np.exp(logs) - 1)
    return f"{errors.mean():5.1f}%  {np.median(errors):5.1f}%  {100 * (np.exp(logs.mean()) - 1):+5.1f}%"


GROUPS: dict[str, Callable[[Row], object]] = {
    "GPU": lambda row: row.system, "model": lambda row: row.model.name, "t": lambda row: row.gpus}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the fit into fluid/hardware/iteration_law.py")
    write = parser.parse_args().write
    rows = measured()
    design = Design.of(rows)
    values = design.fit(np.ones(len(rows), dtype=bool))
    covariance = design.covariance(values)
    print(f"{len(rows)} rows of {len(set(design.clusters))} machines, aiconfigurator-core "
          f"{version('aiconfigurator-core')}\n")
    for name, value, error in zip(iteration_law.FITTED, values, np.sqrt(np.diag(covariance)), strict=True):
        print(f"{name:30} {value:10.4g} +- {1.96 * error:.2g}")
    print(f"\n{'':24}   mean  median   bias")
    print(f"{'sheet':24} {score(np.array([np.log(by_sheet(row) / row.tpot) for row in rows]))}")
    print(f"{'law, rows it is fitted to':24} {score(np.array([np.log(predicted(r, values) / r.tpot) for r in rows]))}")
    spread = []
    for label, group in GROUPS.items():
        parts = dict(held_out(rows, design, group))
        together = np.concatenate(list(parts.values()))
        spread.append(float(np.sqrt((together**2).mean())))
        print(f"{'law, ' + label + ' held out':24} {score(together)}")
        for name, logs in parts.items():
            print(f"{'    ' + str(name):24} {score(logs)}")
    if write:
        put(values, covariance, max(spread[:2]))


def put(values: np.ndarray, covariance: np.ndarray, spread: float) -> None:
    """Write the fit into the module of the law."""
    path = Path(iteration_law.__file__)
    row = "({})".format
    text = path.read_text(encoding="utf-8")
    for name, value in (
            ("VALUES", row(", ".join(f"{each:.4g}" for each in values))),
            ("COVARIANCE", "(\n" + "".join(f"    {row(', '.join(f'{x:.3g}' for x in each))},\n" for each in covariance)
             + ")"),
            ("SPREAD", f"{spread:.3g}")):
        text = re.sub(rf"^{name} = (\(\n(?:.|\n)*?^\)|.*)$", lambda _, n=name, v=value: f"{n} = {v}", text, count=1,
                      flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
