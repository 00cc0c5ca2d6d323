"""`kvpool up`, from a file to running pools and back to nothing."""

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvpool_api.crd import custom_resource_definition
from kvpool_api.pool import InferencePool
from kvpool_api.validation import Admission
from kvpool_operator.cluster.seam import Refused

from kvpool_cli.doubts import say_doubts
from kvpool_cli.errors import FAILED, INTERRUPTED, UserError
from kvpool_cli.render import console
from kvpool_cli.up.engines import EngineName, programs
from kvpool_cli.up.manifest_file import ManifestFile
from kvpool_cli.up.once_ready import run_command
from kvpool_cli.up.pools import LocalPools, Setting
from kvpool_cli.up.session import running_pools
from kvpool_cli.up.show import Shown, greeting, shown
from kvpool_cli.view import PoolView

STOPS = (signal.SIGINT, signal.SIGTERM)
REFRESH_S = 1.0
REFRESH_UNTIL_READY_S = 0.25


@dataclass(frozen=True, slots=True)
class UpOptions:
    """`once_ready` is a shell command, or None to run until interrupted; `timeout_s` bounds the start alone."""

    file: Path
    engine: EngineName
    port: int
    once_ready: str | None
    shown: Shown
    timeout_s: float | None
    vllm_python: Path | None
    run_folder: Path
    status_command: str
    """What shows this run from another terminal."""


def up(options: UpOptions) -> int:
    """The exit code: that of the once-ready command, 130 after Ctrl-C, 1 when the pools do not become ready in time.

    Raises UserError before anything is started when the file, a port or the engine is not as it must be.
    """
    admission = Admission(custom_resource_definition())
    file = ManifestFile(options.file, admission)
    manifests = file.pools()
    pools = [InferencePool.model_validate(manifest) for manifest in manifests]
    say_doubts(options.file, pools, console(stderr=True, quiet=options.shown == "quiet"))
    images = programs(options.engine, options.vllm_python, pools)
    manifest, run_folder = str(options.file.absolute()), options.run_folder.absolute()
    setting = Setting(admission, images, options.engine, manifest, options.port, run_folder)

    async def run() -> int:
        async with running_pools(manifests, setting) as local:
            return await _Watch(local, options, file).run()

    return asyncio.run(_until_stopped(run()))


async def _until_stopped(work: Coroutine[None, None, int]) -> int:
    """The work's result, or INTERRUPTED when SIGINT or SIGTERM comes first; a second signal does not wait any more.

    So does the terminal's end (SIGHUP), but under nohup. It may come twice, from the shell and from the kernel.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    hangups = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)

    def stop() -> None:
        for number in STOPS:
            loop.remove_signal_handler(number)
        for number in hangups:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in (*STOPS, *hangups):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        for number in (*STOPS, *hangups):
            loop.remove_signal_handler(number)


class _Watch:
    """Shows the pools, changes them with their file, and runs the command once they are ready."""

    def __init__(self, local: LocalPools, options: UpOptions, file: ManifestFile) -> None:
        self._local = local
        self._options = options
        self._file = file
        self._console = console(quiet=options.shown == "quiet")

    async def run(self) -> int:
        await self._show_until_ready()
        if self._options.once_ready is not None:
            return await self._run_command(self._options.once_ready)
        with shown(self._options.shown, self._console) as show:
            while True:
                show(await self._look())
                await asyncio.sleep(REFRESH_S)

    async def _look(self) -> list[PoolView]:
        """The pools as they are, once what has changed in their file is applied; a faulty file changes nothing."""
        try:
            manifests = self._file.changed_pools()
            changes = [] if manifests is None else await self._local.change(manifests)
        except (UserError, Refused) as error:
            told = f"kvpool: the changed file is not applied, the pools run on as they were: {error}"
            console(stderr=True).print(told, soft_wrap=True, highlight=False, markup=False, style="red")
        else:
            for change in changes:
                self._say(f"{self._options.file} has changed: {change}")
        return await self._local.views()

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    async def _show_until_ready(self) -> None:
        views: Sequence[PoolView] = ()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                with shown(self._options.shown, self._console) as show:
                    while not (views and all(found.ready for found in views)):
                        await asyncio.sleep(REFRESH_UNTIL_READY_S)
                        show(views := await self._look())
        except TimeoutError:
            causes = "; ".join(f"{found.name}: {found.why}" for found in views if not found.ready)
            told = f"not ready after {self._options.timeout_s:g} s: {causes}; give it longer with --timeout"
            raise UserError(told, exit_code=FAILED) from None
        for line in greeting(views, self._local.pools, self._options.file, self._options.status_command):
            self._say(line)

    async def _run_command(self, command: str) -> int:
        first = self._local.pools[0]
        told = {
            "KVPOOL_URL": first.door.url,
            "KVPOOL_ADMIN_URL": first.door.admin_url,
            "KVPOOL_ADMIN_TOKEN_FILE": str(first.folder.token_file),
            "KVPOOL_MODEL": first.pool.spec.model.name,
            "KVPOOL_BLOCK_SIZE": str(first.pool.spec.engine.block_size),
            "KVPOOL_RUN_FOLDER": str(self._options.run_folder.absolute()),
        }
        async with asyncio.TaskGroup() as beside:
            work = beside.create_task(run_command(command, told))
            with shown(self._options.shown, self._console) as show:
                while not work.done():
                    show(await self._look())
                    await asyncio.wait([work], timeout=REFRESH_S)
        return work.result()
