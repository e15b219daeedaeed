"""Docker failures as errors with a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from images.errors import DockerError


def unreachable(
    error: BaseException, where: str, store: Path | None = None, target: str | None = None
) -> DockerError:
    """Return the error for a daemon that cannot be reached.

    Args:
        error: the SDK's error.
        where: the daemon's address, and what selected it.
        store: the layout with the image, for the commands that work without Docker.
        target: the image in question.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, PermissionError) for cause in causes):
        return DockerError(
            f"no permission to talk to Docker at {where}",
            remedy="join the group `docker` (sudo usermod -aG docker $USER, then log in again), "
            f"or run this command as root. {_without(store, target)}",
        )
    if any(isinstance(cause, FileNotFoundError) for cause in causes):
        why = "there is no such socket"
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        why = "nothing listens there"
    else:
        why = one_line(causes[-1])
    first = "start Docker, or name another by DOCKER_HOST or docker context use"
    if any(isinstance(cause, NameError) for cause in causes):  # a module is missing
        why, first = "the Docker SDK is installed without ssh", "pip install 'docker[ssh]'"
    return DockerError(
        f"no Docker daemon answers at {where}: {why}",
        remedy=f"{first}. {_without(store, target)}",
    )


def _without(store: Path | None, target: str | None) -> str:
    image = f"oci:{store or 'STORE'}:{target or 'TARGET'}"
    test = f"python build.py test --backend rootfs --target {target or 'TARGET'}"
    return (
        "These work without it: python build.py build, inspect and verify; "
        f"{test} (as root, on an unpacked root file system); "
        f"skopeo copy {image} docker://REGISTRY/NAME:TAG; podman pull {image}"
    )


@contextmanager
def explained(doing: str, root: str = "") -> Iterator[None]:
    """Translate the SDK's errors into a DockerError of one line.

    Args:
        doing: what is attempted, e.g. `load torch280-sglang052`.
        root: the daemon's data directory, for a full disk.
    """
    try:
        yield
    except RefusedError as error:
        raise refused(doing, str(error), root) from error
    except OSError as error:  # all errors of the SDK: a refusal, or no answer
        reason = getattr(error, "explanation", None) or list(_causes(error))[-1]
        raise refused(doing, str(reason), root) from error


class RefusedError(Exception):
    """The daemon reported a failure in an answer whose status was a success."""


def check(answer: Iterable[dict[str, Any]]) -> None:
    """Read a load's answer to its end.

    Raises:
        RefusedError: it reports a failure.
    """
    for message in answer:
        text = message.get("error") or message.get("message")
        if text is None and message.get("stream", "").startswith("Error "):
            text = message["stream"]  # Docker 28 reports so that it could not unpack a layer
        if text:
            raise RefusedError(text)


def refused(doing: str, reason: str, root: str = "") -> DockerError:
    """Return the error for a request that the daemon refused."""
    return DockerError(f"Docker did not {doing}: {one_line(reason)}", remedy=_remedy(reason, root))


def _remedy(reason: str, root: str) -> str | None:
    """Return a remedy. Docker has no error codes: only its text distinguishes failures."""
    if "no space left on device" in reason:
        where = f" ({root})" if root else ""
        return (
            f"free some space on the disk of Docker's data directory{where}: docker system df "
            "shows what uses it, docker image prune removes untagged images. While it loads, an "
            "image needs its space twice"
        )
    if "capabilities: [[gpu]]" in reason or "nvidia-container" in reason:
        return (
            "install NVIDIA's container toolkit on Docker's host: nvidia-ctk runtime configure, "
            "then restart Docker"
        )
    return None


def one_line(text: object) -> str:
    """Return a text without its line breaks."""
    return " ".join(str(text).split()).rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, outermost first; urllib3 keeps causes in arguments."""
    yield error
    inner = [item for item in error.args if isinstance(item, BaseException)]
    following = error.__cause__ or error.__context__ or getattr(error, "reason", None)
    for cause in inner or ([following] if isinstance(following, BaseException) else []):
        yield from _causes(cause)
