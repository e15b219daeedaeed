"""An image that commands can be run in, whatever runs it."""

from __future__ import annotations

import abc
import base64
import json
import shlex
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from testinfra.backend.base import CommandResult
from testinfra.host import Host

_PIECE = 90_000  # bytes in one argument: the kernel takes 128 KiB


class Box(abc.ABC):
    """An image under test; `host` is testinfra's, once it is started."""

    kind: ClassVar[str]
    host: Host

    @abc.abstractmethod
    def started(
        self,
        *,
        user: str | None = None,
        read_only: bool = False,
        env: Mapping[str, str] | None = None,
        tmpfs: Sequence[str] = (),
        gpus: bool = False,
        loopback_only: bool = False,
    ) -> AbstractContextManager[Box]:
        """Start the image anew: as another user, read-only, with other environment variables.

        With `loopback_only` nothing can be fetched in it; a container never has more.
        """

    def run(self, command: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Run a shell command that must succeed; return its standard output."""
        done = self.attempt(command, *arguments, env=env)
        assert done.rc == 0, f"{command}: exit code {done.rc}\n{done.stdout}\n{done.stderr}"
        return str(done.stdout)

    def attempt(
        self, command: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> CommandResult:
        """Run a shell command; each `%s` in it is an argument, if there are any."""
        if arguments:
            command %= tuple(shlex.quote(argument) for argument in arguments)
        settings = "".join(f"export {shlex.quote(f'{k}={v}')}; " for k, v in (env or {}).items())
        return self.host.run(settings + command)

    def write(self, path: str, content: str | bytes) -> None:
        """Put a small file there."""
        data = content.encode() if isinstance(content, str) else content
        self.run("mkdir -p $(dirname %s) && : > %s", path, path)
        for start in range(0, len(data), _PIECE):
            piece = base64.b64encode(data[start : start + _PIECE]).decode()
            self.run("printf %%s %s | base64 -d >> %s", piece, path)

    def python(
        self, code: str, *arguments: str, env: Mapping[str, str] | None = None, options: str = ""
    ) -> str:
        """Run a script in the image's Python; it must succeed. Return its standard output."""
        done = self.attempt_python(code, *arguments, env=env, options=options)
        assert done.rc == 0, f"exit code {done.rc}\n{done.stdout}\n{done.stderr}"
        return str(done.stdout)

    def attempt_python(
        self, code: str, *arguments: str, env: Mapping[str, str] | None = None, options: str = ""
    ) -> CommandResult:
        """Run a script in the image's Python, from a file: spawned children import it again."""
        script = f"/tmp/{uuid.uuid4().hex}.py"
        self.write(script, code)
        words = " ".join(["%s"] * (1 + len(arguments)))
        return self.attempt(f"python {options} {words}", script, *arguments, env=env)

    def ask(self, code: str, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
        """Run a script whose last line of output is JSON; return its value."""
        return json.loads(self.python(code, *arguments, env=env).splitlines()[-1])
