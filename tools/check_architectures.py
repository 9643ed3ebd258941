#!/usr/bin/env python3
"""No file of src/ but an architecture's own names it: what docs/adding-a-model.md promises. Exit 1 with one line per offence.
Names that mean something else too (a tokenizer, a family of templates) may stand where such things are."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent / "src"
OTHER_MEANINGS = {"tokenizer", "chat", "store", "api"}  # vocabularies, templates, catalogue names


def main():
    own, names = {}, set()
    for file in sorted((root / "models").glob("*.cc")):
        for constant, name in re.findall(r'const Architecture (k\w+) = \{"([^"]+)"', file.read_text()):
            own[constant] = file
            names.add(name)
    listed = re.findall(r"SHOAL_ARCHITECTURE\((k\w+)\)", (root / "models" / "architectures.inc").read_text())
    offences = [f"src/models/architectures.inc: {c} is listed {listed.count(c)} times" for c in own if listed.count(c) != 1]
    offences += [f"src/models/architectures.inc: {c} has no file" for c in listed if c not in own]
    for file in sorted(root.rglob("*")):
        if file.suffix not in (".cc", ".h") or file in own.values() or file.relative_to(root).parts[0] in OTHER_MEANINGS:
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            for text in re.findall(r'"([^"]*)"', line.split("//")[0]):
                if text in names:
                    offences.append(f"{file.relative_to(root.parent)}:{number}: names the architecture \"{text}\"")
    print("\n".join(offences) if offences else f"{len(own)} architectures, each in a file of its own alone")
    return 1 if offences else 0


sys.exit(main())
