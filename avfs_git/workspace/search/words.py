"""What a word is: how texts and queries become the terms that are compared.

Decided here, and nowhere else: the index and the excerpts use the same terms. A word is a run of letters, digits and
underscores, without case and accents. An identifier is found by its parts, too: `parseTree` and `parse_tree` by `tree`.
Pure functions, safe from any thread. A change of what is a term needs a new `VERSION` in `index`.
"""

from __future__ import annotations

import re
import unicodedata

from avfs_git.errors import InvalidInput
from avfs_git.paths import text_given
from avfs_git.values import value_class

_WORD = re.compile(r"\w+")
_QUERIED = re.compile(r"(\w+)(\*?)")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_LONGEST = 64
"""Characters of a term; what is behind them does not count."""
_TERMS_MAX = 32
_MEMO_MAX = 200_000


@value_class
class Term:
    """A word of a query."""

    text: str
    is_prefix: bool = False

    def matches(self, term: str) -> bool:
        """Tell whether a term of a text is meant."""
        return term.startswith(self.text) if self.is_prefix else term == self.text


def parse_query(words: str) -> tuple[Term, ...]:
    """Read the words of a query, of which a file must have all; `word*` stands for all words that begin so.

    Raises:
        InvalidInput: If there is no word, or more than 32.
    """
    found = [Term(_fold(match[1]), match[2] == "*") for match in _QUERIED.finditer(_strip(text_given(words)))]
    terms = tuple(dict.fromkeys(found))
    if not terms:
        raise InvalidInput("the query has no word", hint="To search for signs, use `avfs grep -F`.")
    if len(terms) > _TERMS_MAX:
        raise InvalidInput(f"the query has {len(terms)} words; at most {_TERMS_MAX} are possible")
    return terms


class Splitter:
    """Spells the terms of many texts, separated by spaces; remembers words that it has met."""

    def __init__(self) -> None:
        self._memo: dict[str, str] = {}

    def spell(self, text: str) -> str:
        """Spell the terms of a text."""
        memo = self._memo
        if len(memo) > _MEMO_MAX:
            memo.clear()
        words = _WORD.findall(_strip(text))
        for word in words:
            if word not in memo:
                memo[word] = " ".join(split_word(word))
        return " ".join([memo[word] for word in words])


def split_word(word: str) -> list[str]:
    """Give the terms of one word: itself, and its parts if it has several."""
    whole = _fold(word)
    parts = _PARTS.findall(word) if word.isascii() else [part for part in word.split("_") if part]
    if not parts or (len(parts) == 1 and len(parts[0]) == len(word)):
        return [whole]
    return [whole, *dict.fromkeys(term for part in parts if (term := _fold(part)) != whole)]


def _strip(text: str) -> str:
    """Take accents off."""
    if text.isascii():
        return text
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


def _fold(word: str) -> str:
    return word[:_LONGEST].casefold()
