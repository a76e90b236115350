"""Cells on a Dask cluster.

Dask's own client hands them out: a cell whose worker dies is given to another one, and when that goes on until Dask
gives up, or the scheduler is lost, the command ends with one line and every finished cell is kept. (With joblib's Dask
backend it would wait for ever.) Workers must compute with the very program of the command, else it is refused.

What comes back is text, which is checked before it is used: what program a worker has, and the row of a cell as JSON.
Pickles, which run what their maker likes, are not opened for either, and for the program, before anything is computed,
none at all: that is asked for by a call of its own. Dask's client itself does open those in which workers wrap errors,
warnings and the types of results. So a cluster is trusted with what the user may do, like the code that it is sent.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

from fluid.errors import FluidwaitError, InputError, shown
from fluidwait.deployment.deployment import Deployment
from fluidwait.progress import note
from fluidwait.study.cell import Finished, Stream, cell_of, finish, row_of
from fluidwait.study.fingerprint import program
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan
from fluidwait.study.store import TABLE
from verification.experiments.stability import STABLE, UNDECIDED, UNSTABLE
from verification.store.table import Row

CONNECT_WITHIN, ANSWER_WITHIN = 20, 300  # seconds; workers may have to load the program first
TEXT = ["msgpack"]  # the only form in which values are taken from a cluster: numbers, text, lists of them
ASKED = 5  # columns of a row that say what was asked
REFUSED = "refused"


def finish_on_cluster(address: str, deployment: Deployment, cells: Sequence[Cell], plan: Plan) -> Stream:
    """Simulate cells on the cluster with the scheduler at an address, and yield each when it is finished."""
    with closing(on_cluster(address, deployment, cells, finish_as_text, plan, program())) as answers:
        yield from (_cell(answer, cell, plan) for cell, answer in answers)


def on_cluster(address: str, deployment: Deployment, cells: Sequence[Any], compute: Callable[..., str],
               *arguments: Any) -> Generator[tuple[Any, Any], None, None]:
    """Yield each cell with what compute(deployment, cell, *arguments) answers on the cluster, as it is finished.

    An answer may be anything that is no pickle: who asks checks it.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise FluidwaitError("--dask needs Dask beside fluidwait: pip install 'fluidwait[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)  # what it would log is said in one line
    programs = _programs(address)
    try:
        with Client(address, set_as_default=False, deserializers=TEXT) as client:
            if not programs:
                note(f"--dask: {address} has no worker yet; waiting for one")
                client.submit(int, pure=False).result()
                programs = _programs(address)
            _refuse_others(programs)
            shared = client.submit(_held, deployment, pure=False)  # unlike what is scattered it survives its worker
            asked = {client.submit(compute, shared, cell, *arguments, pure=False): cell for cell in cells}
            for future in as_completed(asked, loop=client.loop):
                yield asked[future], _result(future)
                future.release()
    except BaseException as error:
        if not type(error).__module__.startswith("distributed"):
            raise
        raise FluidwaitError(f"--dask: the cluster at {address} failed ({error})") from None


def finish_as_text(deployment: Deployment, cell: Cell, plan: Plan, computing: str) -> str:
    """What a worker does: the row of a finished cell as JSON, or an object that says why there is none."""
    try:
        return json.dumps(TABLE.plain(row_of(finish(deployment, cell, plan, computing), plan)))
    except FluidwaitError as error:
        return json.dumps({REFUSED: str(error)})


def answered(text: Any) -> Any:
    """What a worker's text says; raises FluidwaitError where it refused."""
    try:
        answer = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        answer = text
    if isinstance(answer, dict) and isinstance(answer.get(REFUSED), str):
        raise FluidwaitError(answer[REFUSED])
    return answer


def _held(deployment: Deployment) -> Deployment:
    return deployment


def _result(future: Any) -> Any:
    """What a worker answered; raises FluidwaitError where it is a pickle."""
    try:
        return future.result()
    except TypeError as error:
        if "only able to deserialize" not in str(error):
            raise
        raise FluidwaitError(f"--dask: a worker's answer is no text ({error})") from None


def _programs(address: str) -> dict[str, Any]:
    """What each worker computes with, asked without a client, which would keep on trying and open what it is sent."""
    try:
        return asyncio.run(_answers(address))
    except Exception as error:  # what connects is chosen by the address, and fails in its own way
        why = str(error) or "it says nothing"
        raise FluidwaitError(f"--dask: no scheduler answers at {address} ({why})") from None


async def _answers(address: str) -> dict[str, Any]:
    from distributed import Security, rpc
    from distributed.comm import connect
    from distributed.protocol.pickle import dumps

    secrets = Security().get_connection_args("client")
    message = {"op": "run", "function": dumps(program), "wait": True}
    async with asyncio.timeout(CONNECT_WITHIN + 1):
        await (await connect(address, timeout=CONNECT_WITHIN, **secrets)).close()
    async with asyncio.timeout(ANSWER_WITHIN), rpc(address, connection_args=secrets, deserializers=TEXT) as scheduler:
        answers: dict[str, Any] = await scheduler.broadcast(msg=message, on_error="return_pickle")
    return answers


def _refuse_others(found: dict[str, Any]) -> None:
    for worker, answer in found.items():
        said = answer if isinstance(answer, dict) else {}
        has = said.get("result") or said.get("exception_text") or "no answer: is fluidwait there?"
        if has != program():
            raise FluidwaitError(f"--dask: worker {worker} must compute with {program()} (got {str(has)[:300]})")


def _cell(text: Any, cell: Cell, plan: Plan) -> Finished:
    """The finished cell of a worker's text; raises FluidwaitError where it refused, or where that is none."""
    answer = answered(text)
    try:
        row = TABLE.plain(answer if isinstance(answer, list) else [])
    except InputError:
        row = ()
    if not _answers_to(row, cell, plan):
        raise FluidwaitError(f"--dask: a worker's answer is no cell at {cell.rate:g} requests/s: {shown(answer)}")
    return cell_of(row)


def _answers_to(row: Row, cell: Cell, plan: Plan) -> bool:
    """Whether a row can be that of a cell."""
    question = TABLE.plain(row_of(Finished(cell, "", "", None), plan))[:ASKED]
    values = dict(zip(TABLE.names, row, strict=False))
    measured = {values.get(name) is None for name in ("kv_peak", "overflow_runs", "score", "verdict_horizon")}
    return (row[:ASKED] == question and values["verdict"] in (STABLE, UNSTABLE, UNDECIDED)
            and isinstance(values["reason"], str) and len(measured) == 1)
