"""What every command shares: help, versions, and errors that are one message and an exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import errata
from errata.cli import main
from errata.cli.app import app
from errata.errors import BadInput

COMMANDS = (
    "edit generate undo train run sweep reproduce findings report list doctor locate artifacts atlas data demo prompts"
).split()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = {
        line.split()[0] for line in capsys.readouterr().out.partition("Commands:")[2].splitlines() if line.strip()
    }
    assert listed == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "Usage: errata" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"errata {errata.__version__}\n"
    assert version("errata") == errata.__version__


@pytest.mark.parametrize(
    "arguments",
    [["no-such-command"], ["list", "nothing"], ["edit", "--no-such-option"], ["generate", "atlas"], ["report"]],
)
def test_wrong_usage_is_one_message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Error" in err and "Traceback" not in err


def raises(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    command = next(c for c in app.registered_commands if c.name == "demo")
    monkeypatch.setattr(command, "callback", fail)


def test_expected_errors_are_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raises(BadInput("the subject is not there; name it"), monkeypatch)
    assert main(["demo"]) == 2
    assert capsys.readouterr() == ("", "errata: the subject is not there; name it\n")


def test_errors_of_the_system_name_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raises(PermissionError(13, "Permission denied", "/there/it is"), monkeypatch)
    assert main(["demo"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("errata: /there/it is: Permission denied") and err.count("\n") == 1


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raises(ZeroDivisionError("a bug"), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


@pytest.mark.parametrize("said", ["", "go on with: errata run x"])
def test_an_interrupt_says_how_to_go_on(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raises(KeyboardInterrupt(*[said] * bool(said)), monkeypatch)
    assert main(["demo"]) == 130
    out, err = capsys.readouterr()
    assert out == "" and (said or "same command") in err and err.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="signals of POSIX")
def test_ctrl_c_ends_the_process_with_130(tmp_path: Path) -> None:
    code = "import time, errata.cli.app as a, errata.cli as c, sys\n"
    code += "command = next(x for x in a.app.registered_commands if x.name == 'demo')\n"
    code += "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
    code += "command.callback = wait\nsys.exit(c.main(['demo']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m errata.cli.app list models --json | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ["edit", "The capital of France is", "--subject", "Spain", "--target", "Lyon"],
            "'Spain' is not in the prompt",
        ),
        (["edit", "The capital of France is", "--subject", "France", "--target", " "], "target_new is empty"),
        (["edit", "The capital of France is", "--subject", "France"], "--target"),
        (["edit", "A prompt", "--edits", "file.jsonl"], "not both"),
        (["edit", "--edits", "no-such-file.jsonl"], "no-such-file.jsonl"),
        (["edit", "x y", "--subject", "x", "--target", "z", "--set", "steps"], "NAME=VALUE"),
        (["edit", "a b", "--subject", "a", "--target", "c", "--save", f"{__file__}/new"], "can be written to"),
        (["edit", "a b", "--subject", "a", "--target", "c", "--save", str(Path(__file__).parent)], "something else"),
        (["run", "no-such-config.yaml"], "no-such-config.yaml"),
        (["report", "no-such-run"], "no-such-run"),
        (["undo", "no-such-folder"], "no-such-folder"),
        (["doctor", "lama"], "llama"),
        (["generate", "no-such-model", "x"], "no-such-model"),
        (["artifacts", "build", "second-moment", "--layers", "four", "--corpus", "atlas"], "'four'"),
        (["list", "methods", "rom"], "did you mean rome"),
        (["atlas", "train", "folder", "--set", "layer=2"], "layers="),
        (["atlas", "train", "folder", "--set", "layers=two"], "layers: Input should be a valid integer"),
    ],
)
def test_bad_input_names_the_thing(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and named in err and err.startswith("errata: ") and "Traceback" not in err


def test_line_37_of_a_long_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = json.dumps({"prompt": "The capital of France is", "subject": "France", "target_new": "Lyon"})
    lines = [good] * 10_000
    lines[36] = lines[36][:-5]
    (tmp_path / "edits.jsonl").write_text("\n".join(lines))
    assert main(["edit", "--edits", str(tmp_path / "edits.jsonl")]) == 2
    assert "edits.jsonl:37" in capsys.readouterr().err.replace(", line ", ":")
