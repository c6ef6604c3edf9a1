"""Lines of code of each package, without blank lines, comments and docstrings.

`python -m benchmarks.code_size` counts the Python files that git tracks: a line counts if a token
of the program stands on it. The sum is that of the packages.
"""

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BESIDE = (".", "benchmarks", "examples", "tests")
_NO_CODE = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
)


def code_lines(source: str) -> int:
    """Returns how many lines of a module hold code.

    >>> code_lines('''"A docstring."
    ...
    ... # A comment.
    ... text = [
    ...     "not a docstring",
    ... ]
    ... ''')
    3
    """
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines.difference(_docstring_lines(ast.parse(source))))


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            yield from range(text.lineno, (text.end_lineno or text.lineno) + 1)


def count(root: Path) -> Counter[str]:
    """Returns the lines of code by top-level folder, and by the rooms of the packages."""
    listed = subprocess.check_output(["git", "ls-files", "*.py"], cwd=root, text=True)
    lines: Counter[str] = Counter()
    for name in listed.splitlines():
        folder, *rest = name.split("/")[:-1] or ["."]
        found = code_lines((root / name).read_text(encoding="utf-8"))
        lines[folder] += found
        if rest and folder not in BESIDE:
            lines[f"{folder}/{rest[0]}"] += found
    return lines


def main() -> None:
    """Prints the counts and the sum of the packages."""
    lines = count(ROOT)
    for name in sorted(lines):
        sys.stdout.write(f"{lines[name]:7,} {name}\n")
    packages = sum(n for name, n in lines.items() if "/" not in name and name not in BESIDE)
    sys.stdout.write(f"{packages:7,} packages\n")


if __name__ == "__main__":
    main()
