"""CoNLL-2003 (Tjong Kim Sang and De Meulder 2003): the names in a sentence. Paper 2's named entity recognition.

Each sentence is asked four times, once for each kind of entity.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from errata.capability.benchmarks.paper2 import Hits, after
from errata.capability.extraction import UNPARSED, first_line, holds, reads, reads_of
from errata.capability.items import Doc, Docs, docs
from errata.capability.sources import Split, decoded, read, texts, wrong
from errata.data.rows import Row
from errata.errors import BadInput

KINDS = {"PER": "Person", "LOC": "Location", "ORG": "Organization", "MISC": "Miscellaneous"}
START = "-DOCSTART-"
NONE = "none"
BETWEEN = "; "


def _sentences(path: Path) -> Iterator[Row]:
    """Tokens and tags of the sentences of a file: a token a line, with part of speech, chunk and tag."""
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*decoded(path).split("\n"), ""], start=1):
        cells = line.split()
        if cells and (len(cells) != 4 or not re.fullmatch(rf"O|[BI]-({'|'.join(KINDS)})", cells[3])):
            raise BadInput(f"{path}:{number}: found {line!r}, expected a token, two tags and one such as B-PER")
        if cells:
            tokens, tags = [*tokens, cells[0]], [*tags, cells[3]]
        elif tokens:
            yield Row(f"{path}:{number - len(tokens)}", number - len(tokens), {"tokens": tokens, "tags": tags})
            tokens, tags = [], []


TEST = Split(
    "conll2003",
    ("test", "eng.testb", "testb"),
    parts=("eng.testb", "test-NER.txt"),
    reader=_sentences,
    elsewhere="build eng.testb as www.clips.uantwerpen.be/conll2003/ner tells, from Reuters' texts that NIST licenses",
)


def load(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """Four items for each of the 3,453 sentences of the test set."""
    return docs(items(row for row in read(TEST, data_dir) if row.fields.get("tokens") != [START]))


def load_paper(data_dir: str | None = None, **_: Any) -> dict[str, Docs]:
    """What the scripts count: the lines that begin a document as sentences, too."""
    return docs(paper_items(read(TEST, data_dir)))


def items(rows: Iterable[Row]) -> list[Doc]:
    """The different entities of each kind in each sentence."""
    return [
        _item(number, kind, sentence(tokens), list(dict.fromkeys(entities(tokens, tags, kind))))
        for number, row in enumerate(rows)
        for tokens, tags in [_tagged(row)]
        for kind in KINDS
    ]


def paper_items(rows: Iterable[Row]) -> list[Doc]:
    """As `items`, by the scripts' reading of the tags.

    Without what they ask but never count: a sentence without entities of a kind other than MISC.
    """
    asked = [
        _item(number, kind, paper_sentence(tokens), paper_entities(tokens, tags, kind))
        for number, row in enumerate(rows)
        for tokens, tags in [_tagged(row)]
        for kind in KINDS
    ]
    return [doc for doc in asked if doc["entities"] or doc["kind"] == "MISC"]


def _item(number: int, kind: str, said: str, found: list[str]) -> Doc:
    gold = BETWEEN.join(found) or NONE
    return {"id": f"{number:04d}-{kind}", "kind": kind, "sentence": said, "entities": found, "gold": gold}


def _tagged(row: Row) -> tuple[list[str], list[str]]:
    tokens, tags = texts(row, "tokens"), texts(row, "tags")
    if len(tokens) != len(tags):
        raise wrong(row, "tags", tags, f"{len(tokens)} tags, one for each token")
    return tokens, tags


def entities(tokens: Sequence[str], tags: Sequence[str], kind: str) -> list[str]:
    """The entities of a kind, from tags in IOB1 (as first released) or IOB2."""
    spans: list[list[str]] = []
    before = ""
    for token, tag in zip(tokens, tags, strict=True):
        mark, _, of = tag.partition("-")
        if of == kind and (mark == "B" or before != kind):
            spans.append([])
        if of == kind:
            spans[-1].append(token)
        before = of
    return [sentence(span) for span in spans]


def sentence(tokens: Sequence[str]) -> str:
    """The tokens as text, commas and full stops without a space before them."""
    return re.sub(r" ([,.])(?= |$)", r"\1", " ".join(tokens))


def paper_entities(tokens: Sequence[str], tags: Sequence[str], kind: str) -> list[str]:
    """From a B- tag up to the next O, over other kinds, as the scripts read them.

    Where no O follows, the last token of the sentence is left out: a name of one word that ends a sentence
    becomes the empty text, which every output contains.
    """
    found, at = [], 0
    while at < len(tags):
        if tags[at] == f"B-{kind}":
            end = next((place for place in range(at, len(tags)) if tags[place] == "O"), len(tags) - 1)
            found.append(" ".join(tokens[at:end]))
            at = end
        at += 1
    return found


def paper_sentence(tokens: Sequence[str]) -> str:
    """As `sentence`, without its first character if that is a comma or a full stop."""
    return "".join(token if token in (",", ".") else f" {token}" for token in tokens)[1:]


def prompt(doc: Doc) -> str:
    """Paper 2's question, which says how to answer."""
    return (
        f"Please identify {KINDS[doc['kind']]} Entity from the given text, separated by commas, "
        f"or answer {NONE} if there is none. Text: {doc['sentence']} Entity:"
    )


def paper_prompt(doc: Doc) -> str:
    """As the scripts send it."""
    return f"Please identify {KINDS[doc['kind']]} Entity from the given text. Text: {doc['sentence']} Entity:"


def parse_strict(output: str) -> str | None:
    """The parts of the first line between commas or semicolons; "none" for no entity.

    An entity with a comma in it is taken apart.
    """
    parts = [_bare(part) for part in re.split("[,;]", first_line(output)) if _bare(part)]
    return NONE if [part.lower() for part in parts] == [NONE] else BETWEEN.join(dict.fromkeys(parts)) or None


def parse_loose(output: str, doc: Doc) -> str | None:
    """As `parse_strict`, each part read as the right entities that it contains, case and punctuation apart."""
    given = parse_strict(output)
    if given is None or given == NONE:
        return given
    return BETWEEN.join(dict.fromkeys(e for part in given.split(BETWEEN) for e in _within(part, doc["entities"])))


def _within(part: str, entities: Sequence[str]) -> list[str]:
    """The entities whose words stand in a part, or the part itself."""
    return [entity for entity in entities if holds(part, entity)] or [part]


def _bare(part: str) -> str:
    return part.strip(" \t\"'").removesuffix(".")


def score(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Entities found (tp), made up (fp) and missed (fn), the F1 of the item, and its weight.

    The F1 of the whole, 2 tp / (2 tp + fp + fn), is the mean by weight: an item without entities, of which none
    was named, weighs nothing.
    """
    said = set() if results[0] in (UNPARSED, NONE) else {_bare(part) for part in results[0].split(BETWEEN)}
    gold = {_bare(entity) for entity in doc["entities"]}
    tp, weight = len(said & gold), len(said) + len(gold)
    f1 = 2 * tp / weight if weight else float(results[0] != UNPARSED)
    return {"score": f1, "weight": weight, "tp": tp, "fp": len(said - gold), "fn": len(gold - said)}


def paper(outputs: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[Hits]:
    """The entities that are part of the output as texts, after the first "Entity:"."""
    return [_contained(output[0], doc) for output, doc in zip(outputs, docs, strict=True)]


def _contained(output: str, doc: Doc) -> Hits:
    said = after("Entity:", paper_prompt(doc), output, split=1)
    found = [entity for entity in doc["entities"] if entity in said]
    return Hits(BETWEEN.join(found) or said, len(found))


def paper_score(doc: Doc, results: Sequence[Hits]) -> dict[str, float]:
    """Recall of one item, and its weight: the recall of a kind is the weighted mean.

    An item without entities, which only MISC has, weighs one and is wrong.
    """
    weight = max(len(doc["entities"]), 1)
    return {"score": results[0].hits / weight, "weight": weight}


strict, loose = reads(parse_strict), reads_of(parse_loose)
