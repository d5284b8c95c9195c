"""Several processes of this machine, one a GPU where there are GPUs; each loads the model once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from benchmark.errors import UsageError
from benchmark.run.crew import Crew
from benchmark.run.executor import Done
from benchmark.run.plan import Plan
from benchmark.run.store import Store
from benchmark.run.work import Outcome
from benchmark.run.worker import Orders, Worker

PATIENCE = 1.0
"""Seconds after which whoever waits is told that nothing is over yet."""


class Processes(Crew[Connection]):
    """Workers that are processes; one that dies is replaced, and its job done again."""

    apart = True

    def __init__(self, orders: Sequence[Orders], store: Store, plan: Plan) -> None:
        """``orders``: of each worker."""
        self._context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        super().__init__(store, plan)
        self._orders: dict[Connection, Orders] = {}
        self._processes: dict[Connection, SpawnProcess] = {}
        self._ready: list[Connection] = []
        for one in orders:
            self._begin(one)

    def _begin(self, orders: Orders) -> None:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, orders), daemon=True)
        process.start()
        theirs.close()
        self._processes[mine], self._orders[mine] = process, orders

    def wait(self) -> Sequence[Done]:
        done: list[Done] = []
        for worker, job in self.for_idle(list(self._ready)):
            try:
                worker.send((job, {}))
            except OSError:  # it died with nothing to do
                done += self._gone(worker)
        for worker in wait(list(self._processes), PATIENCE):
            assert isinstance(worker, Connection)
            try:
                said = worker.recv()
            except (EOFError, ConnectionResetError):
                done += self._gone(worker)
                continue
            if isinstance(said, Outcome):
                done.append(self.over(worker, said))
            elif isinstance(said, BaseException):
                raise said
            else:
                self._ready.append(worker)
        return done

    def _gone(self, worker: Connection) -> list[Done]:
        """Replace a worker that is dead.

        Raises:
            UsageError: it died before it had a job: whatever follows it would too.
        """
        process, orders = self._processes.pop(worker), self._orders.pop(worker)
        worker.close()
        process.join()
        why = f"process {process.pid} ended with {process.exitcode}"
        if worker not in self._ready:
            raise UsageError(f"a worker could not begin: {why}; give fewer --workers, or free memory")
        self._ready.remove(worker)
        self._begin(orders)
        return self.gone(worker, why)

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join(5)
            if process.is_alive():
                process.kill()


def _serve(pipe: Connection, orders: Orders) -> None:
    """The life of a worker: it ends with who began it, who also decides what Ctrl-C means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    try:
        worker = Worker(orders)
    except BaseException as error:  # whatever it is, it ends the run, and is told there
        pipe.send(error)
        return
    pipe.send("ready")
    while True:
        job, known = pipe.recv()
        pipe.send(worker.do(job, known))


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
