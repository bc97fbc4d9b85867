"""Runs on a chat model: edits and probes inside its template, or not."""

from pathlib import Path

import pytest
import yaml
from tiny_world import FACTS, MakeConfig

from errata.errors import BadInput
from errata.model.loading import load
from errata.model.tokens import encode, encode_target, subject_index
from errata.records import read_records
from errata.runs.config import ChatTemplate, read_resolved
from errata.runs.layout import RunDir
from errata.runs.ledger import read_ledger
from errata.runs.runner import start
from errata.testing import tiny_model

# It holds a subject itself: Italy, behind the user's words.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[Italy]\n{% endif %}"
)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("chat")
    tiny = tiny_model("llama", layers=2, width=32)
    tiny.tokenizer.chat_template = TEMPLATE
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return str(folder)


def text_of(prompt: str) -> str:
    return f"<s>[user] {prompt}\n[Italy]\n"


def test_prompts_are_the_users_message(tmp_path: Path, make_config: MakeConfig, chat_model: str) -> None:
    run = RunDir(start(make_config(model=chat_model, edits=[4]), tmp_path))
    assert read_resolved(run).chat_template == ChatTemplate(edits=True, probes=True)
    tokenizer = load(chat_model).tokenizer
    for entry, (subject, _, _) in zip(read_ledger(run.ledger), FACTS, strict=True):
        ids = tokenizer(text_of(f"The capital of {subject} is"), add_special_tokens=False).input_ids
        end = tokenizer(f"<s>[user] The capital of {subject}", add_special_tokens=False).input_ids
        assert entry.details[0]["lookup"] == len(end) - 1 < len(ids) - 1


def test_probes_are_scored_behind_the_template(tmp_path: Path, make_config: MakeConfig, chat_model: str) -> None:
    run = RunDir(start(make_config(model=chat_model, edits=[1]), tmp_path))
    model = load(chat_model)
    row = read_records(run.table(0, "efficacy"))[0]
    text = text_of("The capital of France is")
    (answer,) = model.generate_full([text], 32, ("\n", ". "))
    assert row.output == answer.text
    ids, given = encode_target(model.tokenizer, text, "Lyon")
    assert ids[:given] == encode(model.tokenizer, text) and ids.count(model.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("said", [{"edits": False, "probes": True}, {"edits": True, "probes": False}])
def test_edits_and_probes_each_choose(
    tmp_path: Path, make_config: MakeConfig, chat_model: str, said: dict[str, bool]
) -> None:
    run = RunDir(start(make_config(model=chat_model, edits=[1], chat_template=said), tmp_path))
    model = load(chat_model)
    plain = subject_index(model.tokenizer, "The capital of France is", "France")
    assert (read_ledger(run.ledger)[0].details[0]["lookup"] == plain) is not said["edits"]
    text = text_of("The capital of France is") if said["probes"] else "The capital of France is"
    (answer,) = model.generate_full([text], 32, ("\n", ". "))
    assert read_records(run.table(0, "efficacy"))[0].output == answer.text


def test_auto_is_off_without_a_template_and_true_is_refused(tmp_path: Path, make_config: MakeConfig) -> None:
    run = RunDir(start(make_config(edits=[0]), tmp_path))
    assert read_resolved(run).chat_template == ChatTemplate(edits=False, probes=False)
    with pytest.raises(BadInput, match=r"no chat template.*chat_template: auto"):
        start(make_config(edits=[0], chat_template=True), tmp_path)


def test_a_run_from_before_there_were_templates_is_not_continued_with_one(
    tmp_path: Path, make_config: MakeConfig, chat_model: str
) -> None:
    run = RunDir(start(make_config(model=chat_model, edits=[0]), tmp_path))
    values = yaml.safe_load(run.config.read_text())
    del values["chat_template"], values["config"]["chat_template"]
    run.config.write_text(yaml.safe_dump(values))
    with pytest.raises(BadInput, match="the use of the chat template changed since"):
        start(run.path)


@pytest.mark.parametrize("method", ["memit", "grace", "ike"])
def test_other_methods_edit_in_the_template_too(
    tmp_path: Path, make_config: MakeConfig, chat_model: str, method: str
) -> None:
    run = RunDir(start(make_config(model=chat_model, method=method, edits=[2]), tmp_path))
    assert [entry.status for entry in read_ledger(run.ledger)] == ["applied", "applied"]
    assert set(run.tables(2)) == {"efficacy", "generalization", "locality", "retention"}
