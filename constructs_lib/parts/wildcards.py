"""Texts with wildcards: ``*`` for any characters, and whether two such texts have something in common."""

ANY = None
"""Stands for a ``*`` among the characters of a wildcard."""

Wildcard = tuple[str | None, ...]


def escaped(text: str) -> str:
    r"""`text` itself as a wildcard of EventBridge: ``\`` before each ``*`` and ``\``."""
    return text.replace("\\", "\\\\").replace("*", "\\*")


def read(wildcard: str) -> Wildcard:
    r"""A wildcard as EventBridge writes it, where ``\*`` and ``\\`` are the characters themselves.

    Raises:
        ValueError: it has a ``\`` before anything else, or two ``*`` in a row; EventBridge takes neither.
    """
    characters: list[str | None] = []
    rest = iter(wildcard)
    for character in rest:
        if character == "\\":
            following = next(rest, "")
            if following not in ("*", "\\"):
                raise ValueError("a backslash must be followed by * or another backslash")
            characters.append(following)
        elif character != "*":
            characters.append(character)
        elif characters[-1:] == [ANY]:
            raise ValueError("two * must not follow each other")
        else:
            characters.append(ANY)
    return tuple(characters)


def beginning(wildcard: Wildcard) -> str:
    """What every text that matches begins with."""
    literal = ""
    for character in wildcard:
        if character is ANY:
            break
        literal += character
    return literal


def have_common_text(one: Wildcard, other: Wildcard) -> bool:
    """Whether there is a text that matches both."""
    seen: set[tuple[int, int]] = set()
    to_do = [(0, 0)]
    while to_do:
        i, j = place = to_do.pop()
        if place in seen or i > len(one) or j > len(other):
            continue
        seen.add(place)
        this, that = one[i : i + 1], other[j : j + 1]
        if not this and not that:
            return True
        # A * stands for nothing, or for what the other one has here.
        if this == (ANY,):
            to_do += [(i + 1, j), (i, j + 1)]
        if that == (ANY,):
            to_do += [(i, j + 1), (i + 1, j)]
        if this == that:
            to_do.append((i + 1, j + 1))
    return False


def matches(wildcard: Wildcard, text: str) -> bool:
    """Whether `text` matches."""
    return have_common_text(wildcard, tuple(text))
