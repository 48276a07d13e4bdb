"""Which objects a pipeline takes: the same that its rule in EventBridge and its starter take. Pure.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any


def matches(filters: Mapping[str, Any], key: str, size: int) -> bool:
    """Whether the pipeline takes an object.

    Args:
        filters: `prefixes` and `suffixes` (one of each has to fit, none given fits all), `wildcards` (or one of
            these), `minSize` and `maxSize` (bytes, included, None for any). All have to be there.
        key: The object's key.
        size: Bytes.
    """
    return _key_matches(filters, key) and _size_matches(filters, size)


def _key_matches(filters: Mapping[str, Any], key: str) -> bool:
    prefixes, suffixes, wildcards = filters["prefixes"], filters["suffixes"], filters["wildcards"]
    if any(_fits(_pieces(wildcard), key) for wildcard in wildcards):
        return True
    if not prefixes and not suffixes:
        return not wildcards
    # A prefix and a suffix are one wildcard in the rule, so they may not share characters.
    return any(_fits([prefix, suffix], key) for prefix in prefixes or [""] for suffix in suffixes or [""])


def _size_matches(filters: Mapping[str, Any], size: int) -> bool:
    least, most = filters["minSize"], filters["maxSize"]
    return (least is None or size >= least) and (most is None or size <= most)


def _pieces(wildcard: str) -> list[str]:
    r"""What stands between the stars. `\*` and `\\` are characters of the key."""
    pieces = [""]
    for escaped, star, plain in re.findall(r"\\([*\\])|(\*)|(.)", wildcard, re.DOTALL):
        if star:
            pieces.append("")
        else:
            pieces[-1] += escaped or plain
    return pieces


def _fits(pieces: Sequence[str], key: str) -> bool:
    """Whether the key is the pieces in their order, with anything between them."""
    if len(pieces) == 1:
        return key == pieces[0]
    first, *middle, last = pieces
    if not key.startswith(first):
        return False
    place = len(first)
    for piece in middle:
        # The first find leaves the most for those behind it.
        found = key.find(piece, place)
        if found < 0:
            return False
        place = found + len(piece)
    return len(key) - len(last) >= place and key.endswith(last)
