"""Conversations with token counts, as ShareGPT's are written: an answer is a request, the turns before it its prompt.

    {"conversations": [{"from": "human", "value": "...", "num_tokens": 12}, {"from": "gpt", "num_tokens": 80}, ...]}
    {"messages": [{"role": "user", "content": "...", "tokens": [5, 11, ...]}, ...], "usage": {"prompt_tokens": 9, ...}}

Turn i of a conversation has c_i tokens: a count, or a list of token ids. Turn j by the model is a request with
l = sum of c_i over i < j and R = c_j. Of `usage` the two numbers are taken as they are. Texts alone tell no tokens: the
file is refused, for they depend on the model's tokenizer.
"""

from __future__ import annotations

from typing import Any

from fluid.traces.formats.format import SHAREGPT, Rows
from fluid.traces.formats.records import Fields, Kind

TURNS = ("conversations", "conversation", "messages")
COUNTS = ("num_tokens", "token_count", "tokens", "n_tokens", "token_ids", "input_ids", "length")
MODEL = ("gpt", "assistant", "chatgpt", "bing", "bard", "model", "bot")
NO_COUNTS = ("has conversations without token counts, which depend on the tokenizer of the model: it must have a count "
             f"at each turn, under {', '.join(COUNTS[:3])}, or prompt_tokens and completion_tokens under usage")
PROMPTS = "each answer is a request, its prompt all turns before it; conversations have no arrival times"


def is_conversation(record: dict[str, Any]) -> bool:
    """Whether this is an object of such a file."""
    return any(isinstance(record.get(key), list) for key in TURNS)


def has_counts(record: dict[str, Any]) -> bool:
    """Whether the turns of a conversation say how many tokens they have."""
    return bool(_requests(record)) and _requests(record) != [(None, None)]


def _fields(objects: list[dict[str, Any]], measured: bool, rows: Rows) -> Fields:
    if PROMPTS not in rows.notes:
        rows.notes.append(PROMPTS)
    found = [(owner, *request) for owner, each in enumerate(objects) for request in _requests(each)]
    return Fields([prompt for _, prompt, _ in found], [output for _, _, output in found],
                  owners=[owner for owner, _, _ in found])


def _requests(record: dict[str, Any]) -> list[tuple[Any, Any]]:
    """The lengths of the requests of a conversation; (None, None) where its turns do not tell."""
    usage = record.get("usage")
    if isinstance(usage, dict):
        return [(usage.get("prompt_tokens"), usage.get("completion_tokens"))]
    turns: list[Any] = next((record[key] for key in TURNS if isinstance(record.get(key), list)), [])
    requests: list[tuple[Any, Any]] = []
    before = 0
    for turn in turns:
        tokens = _count(turn)
        if tokens is None:
            return [(None, None)]
        if str(turn.get("from", turn.get("role", ""))).casefold() in MODEL:
            requests.append((before, tokens))
        before += tokens
    return requests


def _count(turn: Any) -> int | None:
    """The tokens of a turn; None where it does not say."""
    found = next((turn[key] for key in COUNTS if key in turn), None) if isinstance(turn, dict) else None
    if isinstance(found, list):
        return len(found)
    return found if type(found) is int and 0 <= found <= 2**53 else None


KIND = Kind(SHAREGPT, _fields)
