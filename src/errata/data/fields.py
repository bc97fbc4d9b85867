"""The one form of an edit in a file: its fields, strictly checked, to a case and back.

    {"prompt": "The capital of France is", "subject": "France", "target_new": "Lyon"}

Optional: id, group, target_true, paraphrases (a list of prompts), neighbours and portability (lists of
{"prompt": ..., "answer": ...}, and in them kind and aliases). A subject that is left out is inferred where only
one is possible.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from errata.data.rows import Row, shorten
from errata.data.subjects import infer_subject
from errata.errors import BadInput
from errata.types import EditCase, EditRequest, Probe

REQUIRED = ("prompt", "target_new")
FIELDS = (
    "id", "group", "prompt", "subject", "target_new", "target_true", "paraphrases", "neighbours", "portability"
)  # fmt: skip
PROBE = ("prompt", "answer", "kind", "aliases")


def case_of(row: Row) -> EditCase:
    """The case that a row's fields make. BadInput for the first that cannot be: place, what was found and expected."""
    _check_names(row)
    prompt = _text(row, "prompt").rstrip()
    request = _request(
        row.where,
        id=_identifier(row),
        prompt=prompt,
        subject=_text(row, "subject") if row.fields.get("subject") is not None else _inferred(row, prompt),
        target_new=_text(row, "target_new"),
        target_true=_text(row, "target_true") if row.fields.get("target_true") is not None else None,
    )
    return EditCase(
        request,
        paraphrases=tuple(text.rstrip() for text in _strings(row, "paraphrases", row.fields)),
        neighbours=tuple(_probes(row, "neighbours")),
        portability=tuple(_probes(row, "portability")),
        group=_text(row, "group") if row.fields.get("group") is not None else "",
        source=row.where,
    )


def fields_of(case: EditCase) -> dict[str, Any]:
    """What `case_of` makes the case of again; fields without content are left out."""
    request = case.request
    values = {
        "id": request.id,
        "group": case.group,
        "prompt": request.prompt,
        "subject": request.subject,
        "target_new": request.target_new,
        "target_true": request.target_true,
        "paraphrases": list(case.paraphrases),
        "neighbours": [_probe_fields(probe) for probe in case.neighbours],
        "portability": [_probe_fields(probe) for probe in case.portability],
    }
    return {name: value for name, value in values.items() if value}


def _probe_fields(probe: Probe) -> dict[str, Any]:
    values = {name: getattr(probe, name) for name in PROBE}
    return {name: list(value) if name == "aliases" else value for name, value in values.items() if value}


def _request(where: str, **fields: Any) -> EditRequest:
    try:
        return EditRequest(**fields)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error


def _check_names(row: Row) -> None:
    for name in row.fields:
        if name not in FIELDS:
            near = get_close_matches(str(name), FIELDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected only {', '.join(FIELDS)}"
            raise BadInput(f"{row.where}: unknown field {name!r}; {hint}")
    for name in REQUIRED:
        if row.fields.get(name) is None:
            found = ", ".join(map(str, row.fields)) or "no fields"
            raise BadInput(f"{row.where}: {name} is missing; found {found}, expected at least {', '.join(REQUIRED)}")


def _text(row: Row, name: str) -> str:
    return _string(row, row.fields[name], name).strip()


def _string(row: Row, value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{row.where}: {place} is {shorten(value)}, expected a string in quotes")
    if not value.strip():
        raise BadInput(f"{row.where}: {place} is empty, expected text")
    return value


def _identifier(row: Row) -> str:
    value = row.fields.get("id")
    if value is None:
        return str(row.line)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(row, "id")


def _inferred(row: Row, prompt: str) -> str:
    subject = infer_subject(prompt)
    if subject is None:
        raise BadInput(
            f"{row.where}: subject is missing and not plain from the prompt {shorten(prompt)}; "
            'add the field "subject", a part of the prompt letter by letter'
        )
    return subject


def _items(row: Row, place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The entries of a list with their places; one string stands for a list of one."""
    entries = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise BadInput(f"{row.where}: {place} is {shorten(value)}, expected a list")
    return ((f"{place}[{i}]", entry) for i, entry in enumerate(entries))


def _strings(row: Row, name: str, fields: dict[str, Any], within: str = "") -> list[str]:
    return [_string(row, entry, place) for place, entry in _items(row, within + name, fields.get(name))]


def _probes(row: Row, name: str) -> Iterator[Probe]:
    for place, entry in _items(row, name, row.fields.get(name)):
        if not isinstance(entry, dict) or not {"prompt", "answer"} <= set(entry) <= set(PROBE):
            raise BadInput(
                f'{row.where}: {place} is {shorten(entry)}, expected {{"prompt": "...", "answer": "..."}} '
                "and no other fields than kind and aliases"
            )
        yield Probe(
            _string(row, entry["prompt"], f"{place}.prompt").rstrip(),
            _string(row, entry["answer"], f"{place}.answer").strip(),
            _string(row, entry["kind"], f"{place}.kind").strip() if entry.get("kind") is not None else "",
            tuple(text.strip() for text in _strings(row, "aliases", entry, f"{place}.")),
        )
