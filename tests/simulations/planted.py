"""Data with planted values, and the search for them in bytes that leave a platform."""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

COLUMNS = {
    "user": "kundennummer",
    "item": "artikelnummer",
    "order": "kaufzeitpunkt",
    "basket": "bonnummer",
    "event": "vorgangsart",
    "value": "stueckzahl",
    "title": "bezeichnung",
    "brand": "herstellermarke",
    "category": "warengruppe",
    "price": "ladenpreis",
}


@dataclass
class Planted:
    """What may not leave: texts, and numbers that no message holds by chance."""

    texts: set[str] = field(default_factory=lambda: set(COLUMNS.values()))
    numbers: set[float] = field(default_factory=set)

    def needles(self) -> dict[bytes, str]:
        """Return encoding → what it is, for every plausible encoding of what was planted."""
        found: dict[bytes, str] = {}
        for text in self.texts:
            for form in {text, text.lower(), text.upper()}:
                found |= dict.fromkeys(encoded(form), text)
        for number in self.numbers:
            found |= dict.fromkeys(packed(number), repr(number))
            for text in {repr(number), f"{number:.2f}", f"{number:g}", f"{number:.0f}"}:
                if len(text) >= 6:
                    found |= dict.fromkeys(encoded(text), repr(number))
        assert min(map(len, found)) >= 4
        return found


def encoded(text: str) -> Iterator[bytes]:
    """Every plausible encoding of a text: characters, escapes, hex, base64 at each alignment, unsalted hashes."""
    yield json.dumps(text)[1:-1].encode()
    yield text.encode("unicode_escape")
    yield quote(text).encode()
    for raw in (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), text.encode("utf-32-le")):
        yield raw
        yield raw.hex().encode()
        yield raw.hex().upper().encode()
        for shift in range(3):
            # the characters that depend on what stands before and after are left off
            whole = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")[(0, 2, 3)[shift] : -1]
            yield whole
            yield whole.replace(b"+", b"-").replace(b"/", b"_")
    for name in ("md5", "sha1", "sha256"):
        digest = hashlib.new(name, text.encode(), usedforsecurity=False)
        yield digest.digest()
        yield digest.hexdigest().encode()


def packed(number: float) -> Iterator[bytes]:
    """Floats and integers of both byte orders and as protobuf's varints; times also in ms, µs and ns."""
    for form in ("<f", ">f", "<d", ">d"):
        yield struct.pack(form, number)
    if number == int(number):
        for scale in (1, 10**3, 10**6, 10**9):
            whole = int(number) * scale
            if whole >= 2**62:
                continue
            yield from (struct.pack(form, whole) for form in ("<q", ">q"))
            yield from (struct.pack(form, float(whole)) for form in ("<d", ">d"))
            yield from (varint(whole), varint(2 * whole))
            if whole < 2**31:
                yield from (struct.pack(form, whole) for form in ("<i", ">i"))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def search(body: bytes, needles: dict[bytes, str]) -> set[str]:
    starts = {body[i : i + 4] for i in range(len(body) - 3)}  # no needle is shorter
    return {what for needle, what in needles.items() if needle[:4] in starts and needle in body}


def wire(message: Message) -> list[bytes]:
    """Return a message as one protobuf and as the objects that a deployed node pushes."""
    objects = get_all_nested_objects(message)
    return [message_to_proto(message).SerializeToString(), *(o.deflate() for o in objects.values())]


def plant(folder: Path, name: str, shoppers: int, items: int, *, broken: bool = False) -> Planted:
    """Write a platform's files, all of whose ids, names and numbers are rare, and return what they hold."""
    rng, planted = np.random.default_rng([len(name), shoppers, items]), Planted()
    of = COLUMNS
    goods = [
        {
            of["item"]: f"{83_000_000_000 + 7919 * i}" if i % 3 == 0 else f"Artikel-{name}-{i:04}-Ähre",
            of["title"]: f"Zirkonlampe{name}{i:04} mit Schirm",
            of["brand"]: f"{4711.0815 + i:.4f}" if i % 2 else f"Marke{name}{i:04}",
            of["category"]: f"Warengruppe{name}{i % 5}",
            of["price"]: 1234.5678 + 17.0625 * i,
        }
        for i in range(items)
    ]
    sales = []
    for u in range(shoppers):
        who = f"{61_000_000_000 + 104_729 * u}" if u % 3 == 0 else f"Kundin-{name}-{u:04}-Özgür"
        for visit in range(3 + u % 4):
            when = 1_612_345_678 + 86_413 * visit + 7 * u
            sales.append(
                {
                    of["user"]: who,
                    of["item"]: goods[rng.integers(items)][of["item"]],
                    of["order"]: f"vorgestern-{when}" if broken else when,
                    of["basket"]: f"Bon{name}{u:04}{visit:02}",
                    of["event"]: f"Barkauf{name}{visit % 2}",
                    of["value"]: 7777.125 + u + visit / 8,
                }
            )
    folder.mkdir(parents=True)
    pd.DataFrame(goods).to_csv(folder / f"{name}-artikel.csv", index=False)
    file = folder / f"{name}-verkauf.csv"
    pd.DataFrame(sales).to_csv(file, index=False)
    if broken:  # a field beyond the header, which breaks the file for everybody
        with file.open("a", encoding="utf-8") as out:
            out.write(",".join([f"Kundin-{name}-verrutscht"] * (len(sales[0]) + 1)) + "\n")
    rare = [of["price"], of["value"], of["order"]]
    for row in (*goods, *sales):
        planted.texts |= {word for key, v in row.items() if key not in rare for word in str(v).split()}
        planted.texts |= {str(v) for key, v in row.items() if key not in rare}
    planted.texts -= {"mit", "Schirm"}
    planted.texts |= {str(folder), folder.name, f"{name}-verkauf.csv"}
    planted.numbers |= {goods[i][of["price"]] for i in (0, 1, items // 2, items - 1)}
    planted.numbers |= {s[of["value"]] for s in sales[:: len(sales) // 4]}
    if broken:
        planted.texts |= {str(s[of["order"]]) for s in sales}
    else:
        planted.numbers |= {s[of["order"]] for s in sales[:: len(sales) // 4]}
    planted.numbers |= {float(v) for v in (goods[0][of["item"]], sales[0][of["user"]])}
    return planted
