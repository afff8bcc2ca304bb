"""The processes that do the work, and how they reach the desk.

Under mpirun they talk through MPI. Under another launcher (srun, torchrun) they connect to the
first process, whose address and key lie in a file beside the corpus while they do. Each of them may
have worker processes, for which it passes messages on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from typing import Any

from pretrain.distributed.ranks import Ranks
from pretrain.errors import UserError
from pretrain.files import json_text, written_whole
from tools.preprocessing.coordinator import Answer, Desk, Link, Message
from tools.preprocessing.work import Amount, Settings, Workshop

PAUSE = 0.02
"""Seconds between two looks for a message, or two requests for a task."""
PATIENCE = 300.0
"""Seconds until the first process must have been met."""
ASK, REPLY = 1, 2


class Stopped(Exception):  # noqa: N818 - no error, but the end of the work
    """Another process failed, or ended the work."""


def work(link: Link, settings: Settings, folder: Path) -> bool:
    """Do tasks until there are no more. Returns whether all went well, everywhere."""

    def report(amount: Amount) -> None:
        if link(Message("progress", value=amount)).stop:
            raise Stopped

    try:
        workshop = Workshop(settings, folder)
        answer = link(Message("hello", value=workshop.tokenizer.fingerprint))
        while not answer.stop:
            if answer.task is None:
                time.sleep(PAUSE)
                answer = link(Message("ask"))
                continue
            task = answer.task
            value = getattr(workshop, task.method)(*task.arguments, report)
            answer = link(Message("done", task.number, value))
    except Stopped:
        return False
    except UserError as error:
        answer = link(Message("failed", value=str(error)))
    except OSError as error:
        answer = link(Message("failed", value=explained(error, folder)))
    except Exception as error:
        link(Message("failed", value=f"{type(error).__name__}: {error}"))
        raise
    return not answer.failed


def work_with(link: Link, settings: Settings, folder: Path, workers: int) -> bool:
    """Like `work`, in so many processes of this machine."""
    if workers == 1:
        return work(link, settings, folder)
    context = multiprocessing.get_context("spawn")
    children: dict[Connection, Any] = {}
    try:
        for _ in range(workers):
            here, there = context.Pipe()
            child = context.Process(target=_child, args=(there, settings, folder), daemon=True)
            child.start()
            there.close()
            children[here] = child
        return _pass_on(link, children)
    finally:
        for pipe, child in children.items():
            pipe.close()
            child.join(5)
            child.kill()


def explained(error: OSError, folder: Path) -> str:
    """What went wrong while writing, and what to do."""
    return (
        f"{error.filename or folder}: cannot be written ({error.strerror or error}); what is done "
        "is kept: make room, or mend the cause, and give the same command again"
    )


def _child(pipe: Connection, settings: Settings, folder: Path) -> None:
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        work(_over(pipe), settings, folder)


def _pass_on(link: Link, children: dict[Connection, Any]) -> bool:
    """Ask for the children, until each of them has been told to stop.

    The desk says so once to each of its links; the other children hear it from here.
    """
    working = set(children)
    end: Answer | None = None
    while working:
        for pipe in wait(list(working)):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except (EOFError, ConnectionError):
                children[pipe].join(5)
                code = children[pipe].exitcode
                message = Message("failed", value=f"a worker process ended, with exit code {code}")
            answer = end or link(message)
            if answer.stop:
                end = answer
                working.remove(pipe)
            with suppress(ConnectionError):
                pipe.send(answer)
    return end is not None and not end.failed


def _over(pipe: Connection) -> Link:
    def link(message: Message) -> Answer:
        pipe.send(message)
        return pipe.recv()

    return link


@contextmanager
def serving(desk: Desk, ranks: Ranks, folder: Path) -> Iterator[Link]:
    """The first process' link to the desk, while a thread answers the others.

    Leaving waits until each of the others has been told to stop.
    """
    if ranks.world_size == 1:
        yield desk.answer
        return
    if uses_mpi(ranks):
        thread = threading.Thread(target=_serve_mpi, args=(desk, ranks), daemon=True)
    else:
        arguments = (desk, ranks, _meeting(folder, os.environ))
        thread = threading.Thread(target=_serve_connections, args=arguments, daemon=True)
    thread.start()
    try:
        yield desk.answer
    except BaseException as error:
        desk.fail(f"the first process stopped ({type(error).__name__}: {error})")
        raise
    finally:
        thread.join()


@contextmanager
def linked(ranks: Ranks, folder: Path) -> Iterator[Link]:
    """The link of another process than the first."""
    if uses_mpi(ranks):
        yield _mpi_link()
        return
    with _connect(_meeting(folder, os.environ)) as pipe:
        yield _over(pipe)


def uses_mpi(ranks: Ranks) -> bool:
    """Whether the launcher is an MPI's."""
    return ranks.launcher in ("openmpi", "mpich") and ranks.world_size > 1


def mpi_world(ranks: Ranks) -> Any:
    """MPI's communicator of all processes.

    Raises:
        UserError: mpi4py or its library is missing, or is another than mpirun's.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"started under {ranks.launcher}, but mpi4py cannot load its MPI library ({error}); "
            "install one (Debian: openmpi-bin), or use --workers"
        ) from error
    if MPI.COMM_WORLD.Get_size() != ranks.world_size:
        raise UserError(
            f"{ranks.launcher} says {ranks.world_size} processes, mpi4py's library says "
            f"{MPI.COMM_WORLD.Get_size()}: they belong to different MPI libraries; call the mpirun "
            "of the same one, or use --workers"
        )
    return MPI.COMM_WORLD


def _mpi_link() -> Link:
    from mpi4py import MPI

    world = MPI.COMM_WORLD

    def link(message: Message) -> Answer:
        world.send(message, 0, ASK)
        # MPI's own waiting takes a whole core.
        while not world.iprobe(source=0, tag=REPLY):
            time.sleep(PAUSE / 10)
        return world.recv(source=0, tag=REPLY)

    return link


def _serve_mpi(desk: Desk, ranks: Ranks) -> None:
    from mpi4py import MPI

    world, status = MPI.COMM_WORLD, MPI.Status()
    others = ranks.world_size - 1
    while others:
        if not world.iprobe(tag=ASK, status=status):
            time.sleep(PAUSE / 10)
            continue
        message = world.recv(source=status.Get_source(), tag=ASK)
        answer = desk.answer(message)
        world.send(answer, status.Get_source(), REPLY)
        others -= answer.stop


def _serve_connections(desk: Desk, ranks: Ranks, meeting: Path) -> None:
    key = secrets.token_bytes(32)
    others = ranks.world_size - 1
    with Listener(("", 0), authkey=key) as listener:
        address = [socket.gethostname(), listener.address[1]]
        with written_whole(meeting) as beside:
            beside.touch(mode=0o600)
            beside.write_text(json_text({"address": address, "key": key.hex()}))
        threads = []
        for _ in range(others):
            thread = threading.Thread(target=_serve_one, args=(desk, listener.accept()))
            thread.start()
            threads.append(thread)
        meeting.unlink(missing_ok=True)
        for thread in threads:
            thread.join()


def _serve_one(desk: Desk, pipe: Connection) -> None:
    with pipe:
        try:
            stop = False
            while not stop:
                answer = desk.answer(pipe.recv())
                pipe.send(answer)
                stop = answer.stop
        except (EOFError, ConnectionError):
            desk.fail("the connection to one of the processes broke; look at what it printed")


def _connect(meeting: Path) -> Connection:
    """To the first process.

    Raises:
        UserError: it is not to be found.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            found = json.loads(meeting.read_text())
            host, port = found["address"]
            return Client((host, port), authkey=bytes.fromhex(found["key"]))
        except (FileNotFoundError, ConnectionError):
            time.sleep(10 * PAUSE)
    raise UserError(
        f"the first process was not met in {PATIENCE:.0f} s; it writes its address to {meeting}, "
        "which every node must see"
    )


def _meeting(folder: Path, environment: Mapping[str, str]) -> Path:
    """The file that says where the first process of this job listens."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "MASTER_ADDR", "MASTER_PORT")
    job = "-".join(environment[name] for name in names if name in environment)
    return folder.with_name(f".{folder.name}.{job}.meeting")
