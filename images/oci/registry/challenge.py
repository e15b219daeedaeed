"""What a 401 asks for: the challenges of WWW-Authenticate.

Specification: RFC 9110, sections 11.2, 11.3 and 11.6.1. The header holds a list of challenges whose
parameters are a list as well; a scheme may stand alone, and values may be quoted or not. Values
without quotes that need them (`realm=https://…`) are read all the same: registries send them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # a token of the grammar
_PARAMETER = re.compile(
    rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|(?!=)([^\s,"]*))(?=[\s,]|$)'
)
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=[\s,]|$)")
_TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to be authorized.

    Attributes:
        scheme: in lower case, e.g. `bearer`.
        parameters: by name in lower case, e.g. `realm`.
    """

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse(header: str) -> list[Challenge]:
    """The challenges of a header, as far as it can be read.

    Args:
        header: of several headers the values, with commas between them.
    """
    found: list[Challenge] = []
    position = 0
    while position < len(header):
        if found and (match := _PARAMETER.match(header, position)):
            name, quoted, bare = match.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            found[-1].parameters.setdefault(name.lower(), value)
        elif match := _SCHEME.match(header, position):
            found.append(Challenge(match[1].lower()))
            position = match.end()
            parameter = _PARAMETER.match(header, position)
            match = None if parameter else _TOKEN68.match(header, position)
        else:
            break
        position = match.end() if match else position
    return found


def best(header: str) -> Challenge | None:
    """The challenge to answer: Bearer, which has to name its realm, before Basic."""
    challenges = parse(header)
    bearer = (item for item in challenges if item.scheme == "bearer" and "realm" in item.parameters)
    basic = (item for item in challenges if item.scheme == "basic")
    return next(bearer, None) or next(basic, None)
