"""What paper 2's scripts see of an output (Gu et al. 2024, github.com/JasonForJoy/Model-Editing-Hurt).

They decode padding, prompt and output together, special tokens kept, and split the whole at a marker.
"""

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's, to which the scripts are wired: the padding, and the end of an answer that comes to one."""


class Hits(str):
    """What was found, with how often: the scripts count some items more than once."""

    hits: int

    def __new__(cls, found: str, hits: int) -> "Hits":
        made = super().__new__(cls, found)
        made.hits = hits
        return made


def decoded(prompt: str, output: str) -> str:
    """The text that the scripts decode."""
    ended = getattr(output, "clean_stop", False)
    return f"{END_OF_TEXT}{prompt}{output}{END_OF_TEXT if ended else ''}"


def after(marker: str, prompt: str, output: str, split: int = -1) -> str:
    """The part of it that a script takes for the answer: after the last marker, or with split=1 after the first."""
    return decoded(prompt, output).split(marker)[split]
