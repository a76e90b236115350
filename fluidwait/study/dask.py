"""Cells on a Dask cluster.

Dask's own client hands them out: a cell whose worker dies is given to another one, and when that goes on until Dask
gives up, or the scheduler is lost, the command ends with one line and every finished cell is kept. (With joblib's Dask
backend it would wait for ever.) Workers must compute with the very program of the command, else it is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from fluid.errors import FluidwaitError
from fluidwait.deployment.deployment import Deployment
from fluidwait.progress import note
from fluidwait.study.cell import Stream, finish
from fluidwait.study.fingerprint import program
from fluidwait.study.grid import Cell
from fluidwait.study.outcomes import Plan

CONNECT_WITHIN = 20  # seconds


def finish_on_cluster(address: str, deployment: Deployment, cells: Sequence[Cell], plan: Plan) -> Stream:
    """Simulate cells on the cluster with the scheduler at an address, and yield each when it is finished."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise FluidwaitError("--dask needs Dask beside fluidwait: pip install 'fluidwait[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it would log is said in one line
    try:
        asyncio.run(_answers(address))
    except (OSError, ValueError) as error:
        raise FluidwaitError(f"--dask: no scheduler answers at {address} ({error})") from None
    try:
        with Client(address, set_as_default=False) as client:
            if not client.ncores():
                note(f"--dask: {address} has no worker yet; waiting for one")
                client.submit(int, pure=False).result()
            _refuse_other_programs(client.run(program, on_error="return"))
            shared = client.submit(_held, deployment, pure=False)  # unlike what is scattered it survives its worker
            futures = [client.submit(finish, shared, cell, plan, program(), pure=False) for cell in cells]
            for future in as_completed(futures, loop=client.loop):
                yield future.result()
                future.release()
    except BaseException as error:
        if not type(error).__module__.startswith("distributed"):
            raise
        raise FluidwaitError(f"--dask: the cluster at {address} failed ({error})") from None


def _held(deployment: Deployment) -> Deployment:
    return deployment


async def _answers(address: str) -> None:
    """Connect to a scheduler and leave; a client that cannot connect would go on trying when it is thrown away."""
    from distributed import Security
    from distributed.comm import connect

    secrets = Security().get_connection_args("client")
    await (await connect(address, timeout=CONNECT_WITHIN, **secrets)).close()


def _refuse_other_programs(found: dict[str, object]) -> None:
    for worker, answer in found.items():
        if answer != program():
            raise FluidwaitError(f"--dask: worker {worker} must compute with {program()} (got {answer})")
