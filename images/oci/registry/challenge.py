"""Parser of WWW-Authenticate: the challenges of a 401.

Specification: RFC 9110, sections 11.2, 11.3 and 11.6.1. The header is a list of challenges whose
parameters are a list as well; a scheme may have none, and values may be quoted or not. Values
without the quotes that they need (`realm=https://…`) are accepted: registries send them.
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
    """One authorization scheme that a server offers.

    Attributes:
        scheme: in lower case, e.g. `bearer`.
        parameters: by name in lower case, e.g. `realm`.
    """

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse(header: str) -> list[Challenge]:
    """Return the challenges of a header, as far as it can be parsed.

    Args:
        header: its value; several headers are joined by commas.
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
    """Return the challenge to answer: Bearer, if it names its realm, before Basic."""
    challenges = parse(header)
    bearer = (item for item in challenges if item.scheme == "bearer" and "realm" in item.parameters)
    basic = (item for item in challenges if item.scheme == "basic")
    return next(bearer, None) or next(basic, None)
