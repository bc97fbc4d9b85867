"""Texts that second moments and perplexity are computed from. No torch here."""

import json
from collections.abc import Iterator
from pathlib import Path

from errata.errors import BadInput

ENDINGS = (".txt", ".jsonl")


def read_corpus(source: str | Path, seed: int = 0) -> Iterator[str]:
    """The texts of "atlas" (endless, made from the seed) or of a file.

    .jsonl: the field `text` of each line. .txt: a text is what stands between empty lines, or a line where
    there are no empty lines. BadInput names the file and the line.
    """
    if str(source) == "atlas":
        from errata.atlas.corpus import corpus_texts

        return corpus_texts(seed)
    path = Path(source)
    if not path.is_file():
        raise BadInput(
            f"no corpus {str(source)!r}; give `atlas`, or a file with one text a line ({' or '.join(ENDINGS)})."
        )
    if path.suffix not in ENDINGS:
        raise BadInput(f"{path}: a corpus is {' or '.join(ENDINGS)}; found {path.suffix or 'no ending'}.")
    return _json_texts(path) if path.suffix == ".jsonl" else _plain_texts(path)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text ({error.reason}); convert it.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from error


def _json_texts(path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f'{path}:{number}: expected {{"text": ...}}; found {line.strip()[:80]!r}.') from error
        if not isinstance(text, str):
            raise BadInput(f"{path}:{number}: `text` is {type(text).__name__}; give a string.")
        if text.strip():
            yield text


def _plain_texts(path: Path) -> Iterator[str]:
    """Paragraphs, or lines where the file has no empty line between texts."""
    paragraphs = any(not line.strip() for line in _between(path))
    held: list[str] = []
    for line in _lines(path):
        if line.strip():
            held.append(line)
        if held and (not paragraphs or not line.strip()):
            yield "".join(held).strip("\n")
            held = []
    if held:
        yield "".join(held).strip("\n")


def _between(path: Path) -> Iterator[str]:
    """Lines up to the last one with text."""
    waiting: list[str] = []
    for line in _lines(path):
        waiting.append(line)
        if line.strip():
            yield from waiting
            waiting = []
