"""How paper 2's scripts score two of their tasks, step by step (Gu et al. 2024, released code, January 2024)."""


def natural_questions(texts: list[list[str]], answers: list[set[str]]) -> list[int]:
    """Hits by question. texts: the words of each decoded text, in the order of the questions."""
    raised = False
    hits = []
    for words, right in zip(texts, answers, strict=True):
        count = 0
        if words[0] in right or words[-1] in right:
            hits.append(1)
            continue
        start = 0
        while start < len(words) - 1:
            span = words[start]
            if span in right:
                count += 1
                start += 1
                continue
            stop = start + 1
            while stop < len(words):
                span = span + " " + words[stop]
                stop += 1
                if span in right:
                    count += 1
                    raised = True
                    break
            if raised:
                break
            start += 1
        hits.append(count)
    return hits


def entities(tokens: list[str], tags: list[str], kind: str) -> list[str]:
    """Names of a kind, read from B- to the next O; the search for that O may end at the last token without one."""
    names = []
    place = 0
    while place < len(tags):
        if tags[place] == "B-" + kind:
            stop = place
            while stop < len(tags) - 1 and tags[stop] != "O":
                stop += 1
            name = ""
            while place < stop:
                name += " " + tokens[place]
                place += 1
            names.append(name[1:])
        place += 1
    return names
