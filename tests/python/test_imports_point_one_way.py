"""Imports of pyrino point one way: in no circle, upwards in the order of its folders, never to `pyrino` itself."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "pyrino"

#: The order of the house, from its ground up: each folder or module imports only from those before it.
ORDER = " ".join(
    [
        "_core errors _arguments files _columns _weighted bars tables",  # what all use
        "drawing",  # pictures of plain arrays, with which jets draw themselves
        "recipe jets views transforms cpp_module nn losses pairs flops torch_data",  # thin wrappers of C++
        "data",  # files in
        # What a method says of itself to people, and methods written in Python: before training, whose trainer makes
        # them and whose watch asks for their charts and warnings. So do plots.
        "methods",
        # Before training, too: a run is drawn, its embeddings' rank is taken, a tagger predicts wherever jets are.
        "plots evaluate inference",
        "training",  # trainer, pretrain, watch, progress, ranks
        "report _root_files outputs",
        "generate",  # the embedded event generator
        "study bench ranks cli __main__",  # what people call
    ]
).split()


def modules_of(package: Path) -> dict[str, Path]:
    """Files by the names of their modules."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if path.stem == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, modules: set[str]) -> Iterator[str]:
    """Modules of the package that one imports wherever it does, in its functions, too; not what only typing sees."""
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    nodes = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "pyrino")
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            if source.partition(".")[0] == "pyrino":
                full = (f"{source}.{alias.name}" for alias in node.names)
                yield from (one if one in modules else source for one in full)


def faults_of(package: Path, order: list[str]) -> list[str]:
    """What is wrong with the imports of a package that is called pyrino."""
    modules = modules_of(package)
    known = {*modules, "pyrino._core"}
    graph = {name: sorted({*imports_of(name, path, known)}) for name, path in modules.items()}
    faults = []
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        faults.append(f"a circle: {' imports '.join(reversed(error.args[1]))}")
    for name, targets in graph.items():
        place = name.split(".")[1:2]
        if not place:
            continue  # the package's own face has names from everywhere
        for target in targets:
            if target == "pyrino":
                faults.append(f"{name} imports from pyrino itself: import from where the name is at home")
                continue
            there = target.split(".")[1:2]
            if missing := {*place, *there} - {*order}:
                faults.append(f"{name} imports {target}: {missing.pop()} has no place in the order")
            elif order.index(*there) > order.index(*place):
                faults.append(f"{name} imports {target}, which stands after it")
    return faults


def test_no_import_of_pyrino_points_the_wrong_way():
    assert not (faults := faults_of(PACKAGE, ORDER)), "\n".join(faults)


def test_every_place_in_the_order_is_there():
    assert {*ORDER} == {name.split(".")[1] for name in modules_of(PACKAGE) if "." in name} | {"_core"}


CIRCLE = "a circle: pyrino.low.b imports pyrino.low.a imports pyrino.low.b"


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("low/a.py", "def f():\n    from pyrino.low.b import g", CIRCLE),
        ("low/a.py", "from .b import g", CIRCLE),
        ("low/a.py", "import pyrino", "pyrino.low.a imports from pyrino itself"),
        ("low/a.py", "from pyrino import Jets", "pyrino.low.a imports from pyrino itself"),
        ("low/a.py", "from .. import Jets", "pyrino.low.a imports from pyrino itself"),
        ("low/a.py", "from pyrino import high", "pyrino.low.a imports pyrino.high, which stands after it"),
        ("low/a.py", "from pyrino.high.c import h", "pyrino.low.a imports pyrino.high.c, which stands after it"),
        ("new.py", "from pyrino.low.b import g", "pyrino.new imports pyrino.low.b: new has no place in the order"),
        ("low/a.py", "if TYPE_CHECKING:\n    from pyrino.high.c import h", ""),
        ("high/d.py", "from pyrino import _core, low\nfrom pyrino.low.b import g", ""),
    ],
)
def test_each_fault_is_found(tmp_path, module, text, fault):
    package = tmp_path / "pyrino"
    files = {
        "__init__.py": "from pyrino.high.c import h", "low/__init__.py": "", "low/a.py": "",
        "low/b.py": "from pyrino.low import a", "high/__init__.py": "", "high/c.py": "from pyrino.low.b import g",
    }  # fmt: skip
    for name, content in {**files, module: text}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    found = faults_of(package, ["_core", "low", "high"])
    assert fault in "\n".join(found) if fault else not found
