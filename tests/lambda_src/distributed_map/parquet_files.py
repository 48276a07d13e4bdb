"""Footers of Parquet files, as Thrift's compact protocol writes them."""

BINARY, I32, I64, LIST, STRUCT, TRUE, DOUBLE, MAP = 8, 5, 6, 9, 12, 1, 7, 11


def number(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def integer(value: int) -> bytes:
    return number(value << 1 if value >= 0 else (-value << 1) - 1)


def text(value: str) -> bytes:
    return number(len(value.encode())) + value.encode()


def listed(kind: int, *elements: bytes) -> bytes:
    head = bytes([len(elements) << 4 | kind]) if len(elements) < 15 else bytes([0xF0 | kind]) + number(len(elements))
    return head + b"".join(elements)


def struct(*fields: tuple[int, int, bytes]) -> bytes:
    """Fields with their number, type and value."""
    data, last = b"", 0
    for place, kind, value in fields:
        step = place - last
        data += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + integer(place)
        data += value
        last = place
    return data + b"\0"


def column(name: str) -> bytes:
    """A column with everything that a schema may hold."""
    logical = struct((8, STRUCT, struct((1, TRUE, b""), (2, STRUCT, struct((2, STRUCT, struct()))))))
    return struct((1, I32, integer(6)), (3, I32, integer(1)), (4, BINARY, text(name)), (10, STRUCT, logical))


def footer(rows: int, *, columns: int = 3, rows_field: bool = True) -> bytes:
    schema = listed(STRUCT, *(column(f"column {place}") for place in range(columns)))
    odd = listed(TRUE, b"\1", b"\2")
    odd_map = number(1) + bytes([BINARY << 4 | DOUBLE]) + text("a") + b"12345678"
    rest = [(4, LIST, listed(STRUCT)), (20, LIST, odd), (40, MAP, odd_map), (41, MAP, number(0))]
    counted = [(3, I64, integer(rows))] if rows_field else []
    return struct((1, I32, integer(2)), (2, LIST, schema), *counted, *rest)


def parquet(rows: int, *, columns: int = 3) -> bytes:
    """A file: nobody reads its data here."""
    end = footer(rows, columns=columns)
    return b"PAR1" + b"data" * 100 + end + len(end).to_bytes(4, "little") + b"PAR1"
