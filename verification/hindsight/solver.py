"""HiGHS on the program: from a schedule in hand, to a bound and a schedule, within a time, and interruptible.

HiGHS runs in a thread of its own (it lets go of the interpreter), and the caller's thread looks every tenth of a
second: it reports progress, and on KeyboardInterrupt asks the solver to stop, which it does at its next look. What it
then has, schedule and bound, is read as after an ordinary end. Its own interface is used (`highspy`, which cvxpy
brings along): through cvxpy no schedule can be handed over, no bound is read when the time is up, and an interrupt
loses everything. HiGHS looks at the clock seldom while it solves its first linear program, some twenty seconds for
fifty requests; a second after the limit, or after an interrupt, it is left alone with its thread, which ends at the
next look, and there is no answer.

Presolve, the search for symmetries and the heuristics of HiGHS are off. The starts that can be left out have been,
twins are one class, and annealing finds better schedules; on twenty requests of [J] presolve alone took from fifteen
seconds to more than a minute, did not always end at the time limit or an interrupt, and removed next to nothing.

All costs being whole, the search may end as soon as the bound is less than 1 below the objective. HiGHS decides in
floating point (feasible to 1e-6): the schedule is checked again in whole numbers by whoever takes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import highspy
import numpy as np

from fluid.arrays import Floats
from verification.hindsight.program import Program

LOOK = 0.1  # seconds between looks
GRACE = 1.0  # seconds that HiGHS has to stop when it should
PLAIN = (("presolve", "off"), ("mip_detect_symmetry", False), ("mip_heuristic_effort", 0.0))
WHOLE = 0.99  # whole numbers less than this apart are the same


class Answer(NamedTuple):
    """y where HiGHS has any (else None), a lower bound of the program, and whether the caller interrupted."""

    values: Floats | None
    bound: float
    interrupted: bool


def solve(program: Program, known: Floats, seconds: float, gap: float, look: Callable[[], None]) -> Answer:
    """Return what HiGHS finds in `seconds` from the feasible y `known`; `look` is called ten times a second."""
    highs: Any = _Silent()
    highs.passModel(_model(program))
    for option, value in (*PLAIN, ("time_limit", seconds), ("mip_rel_gap", gap), ("mip_abs_gap", WHOLE)):
        highs.setOptionValue(option, value)
    start = highspy.HighsSolution()
    start.col_value = known.tolist()
    highs.setSolution(start)
    ended, interrupted = _watch(highs, look, seconds)
    if not ended:
        return Answer(None, -math.inf, interrupted)
    info = highs.getInfo()
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    return Answer(np.array(highs.getSolution().col_value) if found else None, info.mip_dual_bound, interrupted)


class _Silent(highspy.Highs):  # type: ignore[misc]
    """HiGHS that prints nothing, not even its name, which it does when callbacks are enabled in its constructor."""

    def enableCallbacks(self) -> None:
        self.setOptionValue("log_to_console", False)
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()


def _watch(highs: Any, look: Callable[[], None], seconds: float) -> tuple[bool, bool]:
    """Wait until the solver has ended, or should have; whether it has, and whether it was interrupted."""
    interrupted, until = False, time.monotonic() + seconds + GRACE
    highs.HandleUserInterrupt = True
    highs.startSolve()
    while time.monotonic() < until:
        try:
            if highs.wait(LOOK)[0]:
                return True, interrupted
            if not interrupted:
                look()
        except KeyboardInterrupt:
            interrupted, until = True, min(until, time.monotonic() + GRACE)
            highs.cancelSolve()
    highs.cancelSolve()
    return False, interrupted


def _model(program: Program) -> Any:
    model = highspy.HighsLp()
    rows, columns = program.matrix.shape
    model.num_col_, model.num_row_ = columns, rows
    model.col_cost_ = program.costs
    model.col_lower_, model.col_upper_ = np.zeros(columns), program.most
    model.row_lower_, model.row_upper_ = program.lower, program.upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = program.matrix.indptr
    model.a_matrix_.index_ = program.matrix.indices
    model.a_matrix_.value_ = program.matrix.data
    model.integrality_ = [highspy.HighsVarType.kInteger] * columns
    return model
