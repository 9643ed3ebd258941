#!/usr/bin/env python3
"""Rules of the house that a script can check. Exit 1 with one line per offence."""
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "detail"}
LONGEST_LINE = 120  # clang-format aims at 100; a string that cannot be broken may run over


def tracked():
    names = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    return [root / n for n in names.stdout.splitlines() if (root / n).is_file()]


def main():
    offences = []
    files = tracked()
    modules = [p for p in (root / "src").iterdir() if p.is_dir()]
    for module in modules:
        if not (module / "README.md").is_file():
            offences.append(f"src/{module.name}: has no README.md")
    for file in files:
        name = file.relative_to(root)
        if file.stem in FORBIDDEN_NAMES:
            offences.append(f"{name}: '{file.stem}' says nothing; name what it owns")
        if file.suffix not in (".h", ".cc"):
            continue
        text = file.read_text()
        if file.suffix == ".h" and "#pragma once" not in text:
            offences.append(f"{name}: no #pragma once")
        if file.suffix == ".h" and name.parts[0] == "src" and not text.startswith("//"):
            offences.append(f"{name}: a header opens with what it owns and who may call it")
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > LONGEST_LINE:
                offences.append(f"{name}:{number}: {len(line)} columns")
            if re.search(r"\b(TODO|FIXME|XXX)\b", line):
                offences.append(f"{name}:{number}: finish it or write an issue")
    print("\n".join(offences) if offences else f"{len(files)} files keep the rules")
    return 1 if offences else 0


sys.exit(main())
