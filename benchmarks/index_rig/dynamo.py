"""The peer's index in a process of its own, which times itself."""

import pickle
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from kvpool_router.workers import WorkerId

from benchmarks.index_rig.families import DataSet
from benchmarks.peers import DYNAMO

_SIDE = Path(__file__).with_name("dynamo_side.py")


class Dynamo:
    """Dynamo's RadixTree, filled with the events of a data set; knows the prompts that will be asked."""

    def __init__(self, data: DataSet, prompts: Sequence[bytes]) -> None:
        self._workers = data.workers
        self._process = subprocess.Popen(
            [DYNAMO.interpreter, "-P", _SIDE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        numbers = {worker: number for number, worker in enumerate(data.workers)}
        self._tell([(numbers[each.worker], each.parent, each.hashes, each.tokens) for each in data.stretches])
        self._tell(list(prompts))

    def ask(self, prompts: Sequence[int]) -> list[tuple[float, dict[WorkerId, int]]]:
        """Seconds and blocks a worker for each of the prompts, by their numbers."""
        self._tell(list(prompts))
        assert self._process.stdout is not None
        answers = pickle.load(self._process.stdout)
        return [(seconds, {self._workers[at]: blocks for at, blocks in found.items()}) for seconds, found in answers]

    def _tell(self, told: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(told, self._process.stdin)
        self._process.stdin.flush()

    def __enter__(self) -> "Dynamo":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
