"""The metrics of several processes as one text: each sample has the label of its process."""

from collections.abc import Mapping


def together(texts: Mapping[str, str]) -> str:
    """`texts`: what each process tells (Prometheus' text format, version 0.0.4), by the value of the label `process`."""
    families: dict[str, list[str]] = {}
    for process, text in texts.items():
        rows: list[str] = []
        for line in text.splitlines():
            if line.startswith("# "):
                # "# HELP name …", "# TYPE name …". All lines of a name must stand together.
                rows = families.setdefault(line.split(" ", 3)[2], [])
                if line not in rows:
                    rows.append(line)
            elif line:
                rows.append(_of(process, line))
    return "".join(f"{line}\n" for rows in families.values() for line in rows)


def _of(process: str, line: str) -> str:
    name, brace, rest = line.partition("{")
    if brace:
        return f'{name}{{process="{process}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{process="{process}"}} {value}'
