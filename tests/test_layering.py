"""What must never happen between modules: imports that point back, heavy imports, traces left by importing."""

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import errata

SOURCE = Path(errata.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(SOURCE)], "errata."))

# From the bottom to the top; a module may import what stands on its own line or above it.
# The longest name that fits decides. Names beside each other on a line may import one another.
LAYERS = (
    ("errata.errors", "errata.yamls"),
    ("errata.types",),
    ("errata.atlas",),  # the world and its cases: no model
    ("errata.data", "errata.records", "errata.stats"),
    ("errata.model",),
    ("errata.update",),
    ("errata.model.doctor", "errata.model.locate"),  # prove and probe a model, overlays included
    ("errata.artifacts", "errata.keyvalue"),
    ("errata.gradient",),
    ("errata.editors", "errata.conformance", "errata.testing"),
    ("errata.registry",),
    ("errata.editing", "errata.training"),
    ("errata.capability", "errata.probes"),
    ("errata.runs",),
    ("errata.report",),
    ("errata.atlas.check", "errata.atlas.card", "errata.atlas.methods"),  # measure the embedded model
    ("errata.cli",),
)
LIGHT = (
    "errata.errors",
    "errata.types",
    "errata.registry",
    "errata.stats",
    "errata.report",
    "errata.data",
    "errata.cli",
)
LIGHT += (
    "errata.runs.config",
    "errata.runs.layout",
    "errata.runs.grid",
    "errata.runs.sweep",
    "errata.runs.estimates",
    "errata.runs.clusters",
    "errata.records",
    "errata.model.architecture",
    "errata.atlas.world",
)
HEAVY = {"torch", "transformers", "lm_eval", "datasets", "peft", "accelerate"}


def rank(module: str) -> int:
    if module == "errata":  # its names are lazy: importing it is importing nothing
        return 0
    fitting = [(len(name), i) for i, row in enumerate(LAYERS) for name in row if f"{module}.".startswith(f"{name}.")]
    return max(fitting)[1]


def source_of(module: str) -> Path:
    path = SOURCE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules imported at run time at module level: not inside functions, not for type checking only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from ()
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported(node)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    inner = [name for name in imported(ast.parse(source_of(module).read_text("utf-8"))) if name.startswith("errata")]
    backward = [name for name in inner if rank(name) > rank(module)]
    assert not backward, f"{module} imports {backward}, which stand above it"


def test_the_stats_and_report_know_no_torch_code() -> None:
    """Right of the records nothing knows models: the report reads only the layout, the config and the records."""
    allowed = (
        "errata.report",
        "errata.stats",
        "errata.records",
        "errata.errors",
        "errata.types",
        "errata.runs",
        "errata.registry",
    )
    for module in (m for m in MODULES if m.startswith(("errata.report", "errata.stats"))):
        for name in imported(ast.parse(source_of(module).read_text("utf-8"))):
            assert name == "errata" or not name.startswith("errata.") or name.startswith(allowed), f"{module}: {name}"


def test_no_method_imports_another() -> None:
    from errata.registry import editors

    methods = {info.home.partition(":")[0] for info in editors().values()}
    assert methods
    for module in methods:
        others = methods & set(imported(ast.parse(source_of(module).read_text("utf-8"))))
        assert not others - {module}, f"{module} imports {others}"


def test_model_families_are_told_apart_only_in_the_table() -> None:
    from errata.model.architecture import ARCHITECTURES

    for module in MODULES:
        if module == "errata.model.architecture":
            continue
        for node in ast.walk(ast.parse(source_of(module).read_text("utf-8"))):
            if isinstance(node, ast.Compare | ast.Match | ast.Call):
                found = {n.value for n in _compared(node) if isinstance(n, ast.Constant)} & ARCHITECTURES.keys()
                assert not found, f"{module}, line {node.lineno}: a branch for {found}"


def _compared(node: ast.AST) -> Iterator[ast.AST]:
    """Constants that decide something: in a comparison, a case of a match, an argument of startswith or find."""
    if isinstance(node, ast.Compare):
        for side in (node.left, *node.comparators):
            yield from ast.walk(side)
    elif isinstance(node, ast.Match):
        for case in node.cases:
            yield from ast.walk(case.pattern)
    elif (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("startswith", "find")
    ):
        for argument in node.args:
            yield from ast.walk(argument)


def test_foreign_files_cannot_run_code() -> None:
    for module in MODULES:
        tree = ast.parse(source_of(module).read_text("utf-8"))
        assert not {"pickle", "dill", "joblib", "cloudpickle"} & set(imported(tree)), module
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            name, keywords = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
            assert name != "torch.load" or keywords.get("weights_only") == "True", f"{module}, line {call.lineno}"
            assert keywords.get("trust_remote_code", "False") == "False", f"{module}, line {call.lineno}"
            assert keywords.get("allow_pickle", "False") == "False", f"{module}, line {call.lineno}"


def fresh(code: str) -> str:
    """What a new interpreter prints when it runs `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_errata_is_light() -> None:
    heavy = fresh(
        "import errata, sys; print([m for m in ('torch', 'transformers', 'numpy', 'typer') if m in sys.modules])"
    )
    assert heavy == "[]"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(LIGHT)])
def test_light_modules_name_nothing_heavy(module: str) -> None:
    tree = ast.parse(source_of(module).read_text("utf-8"))
    assert not HEAVY & {name.partition(".")[0] for name in imported(tree)}


def test_light_modules_import_nothing_heavy() -> None:
    light = [m for m in MODULES if m.startswith(LIGHT)]
    code = f"import sys, importlib\nfor m in {light}: importlib.import_module(m)\nprint({HEAVY} & set(sys.modules))"
    assert fresh(code) == "set()"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "methods"], ["list", "tasks"], ["list", "models"], ["edit", "-h"]]
)
def test_commands_that_tell_need_no_torch(arguments: list[str]) -> None:
    code = f"import sys\nfrom errata.cli import main\ncode = main({arguments})\nassert code == 0\n"
    assert fresh(code + f"print('heavy:', {HEAVY} & set(sys.modules))").endswith("heavy: set()")


def test_every_module_can_be_imported_without_a_trace() -> None:
    """No seeding, no logging set-up, no environment variables, no working directory: the libraries come first."""
    code = f"""
import importlib, logging, os, random, sys
import lm_eval, numpy, torch, transformers, altair, typer
from transformers import AutoModelForCausalLM, LlamaForCausalLM
def state():
    root = logging.getLogger()
    return (random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist(), dict(os.environ),
            os.getcwd(), root.level, list(root.handlers), torch.get_num_threads(), torch.get_default_dtype())
before = state()
for name in {MODULES}:
    importlib.import_module(name)
changed = [i for i, (a, b) in enumerate(zip(before, state())) if a != b]
print("changed:", changed)
"""
    assert fresh(code) == "changed: []"
