#!/usr/bin/env python3
"""Checks every #include of src/ against src/LAYERS. Exit 1 with one line per offence."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent / "src"


def read_law():
    level, extra = {}, set()
    lines = [l for l in (root / "LAYERS").read_text().splitlines() if l.strip() and not l.startswith("#")]
    layers = [l.split() for l in lines if not l.startswith("also ")]
    for height, (_, *modules) in enumerate(reversed(layers)):
        for module in modules:
            level[module] = height
    for line in lines:
        if line.startswith("also "):
            _, user, _, used = line.split()
            extra.add((user, used))
    return level, extra


def main():
    level, extra = read_law()
    offences = []
    for module in sorted(p.name for p in root.iterdir() if p.is_dir()):
        if module not in level:
            offences.append(f"src/{module}: not named in src/LAYERS")
            continue
        for file in sorted((root / module).rglob("*")):
            if file.suffix not in (".h", ".cc"):
                continue
            for number, line in enumerate(file.read_text().splitlines(), 1):
                match = re.match(r'\s*#include\s+"([a-z_]+)/', line)
                if not match or match[1] == module or match[1] not in level:
                    continue
                used = match[1]
                if level[used] >= level[module] and (module, used) not in extra:
                    offences.append(f"src/{module}/{file.name}:{number}: {module} may not include {used}")
    print("\n".join(offences) if offences else f"{len(level)} modules keep the law of src/LAYERS")
    return 1 if offences else 0


sys.exit(main())
