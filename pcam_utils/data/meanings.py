"""Tells from the names of two classes which of them is tumour, or says that the names do not tell."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

#: The beginnings of words that say tumour, and of those that say the contrary. A name with both means the contrary,
#: such as a benign tumour or a tumour-negative node.
_TUMOUR = (
    "tum",
    "malig",
    "cancer",
    "carcin",
    "adenocarc",
    "metast",
    "neoplas",
    "krebs",
    "bosartig",
    "abnorm",
    "diseas",
)
_NORMAL = ("norm", "benign", "health", "negativ", "control", "gutartig", "gesund")
#: The same for whole words.
_YES = {"pos", "positive", "positif", "positiv", "yes", "true", "idc", "aca", "scc", "met", "mets"}
_NO = {"neg", "no", "none", "false", "ctrl", "background", "bg", "other", "others", "rest", "stroma", "sain", "sano"}
_NOT = {"no", "non", "not", "without", "free", "sans", "ohne", "kein", "sin", "senza"}
_NUMBERED = {"class", "label", "cls", "y", "category", "target"}  #: words that may stand before the number of a class


def which_is_tumour(names: Sequence[str]) -> int | None:
    """Say which of two names means tumour (0 or 1), if the other one means none. Give None if they do not tell.

    Parameters
    ----------
    names : two str

    Returns
    -------
    int or None

    Examples
    --------
    >>> which_is_tumour(["malignant", "normal"]), which_is_tumour(["0", "1"]), which_is_tumour(["IDC-", "IDC+"])
    (0, 1, 1)
    >>> which_is_tumour(["benign_tumour", "malignant_tumour"]), which_is_tumour(["left", "right"])
    (1, None)
    """
    if len(names) != 2:
        return None
    opinions = [_words(name) for name in names]
    numbers = [_number(name) for name in names]
    if set(numbers) == {"0", "1"}:  # else the numbers count something, such as parts, or classes from one on
        for place, name in enumerate(names):
            number = int(numbers[place] or 0)
            if opinions[place] is None and _tokens(name)[:-1] in ([], *([word] for word in _NUMBERED)):
                opinions[place] = number
            elif opinions[place] != number:
                return None
    return opinions.index(1) if set(opinions) == {0, 1} else None


def mean_the_same(classes: Sequence[str], others: Sequence[str]) -> bool | None:
    """Say whether two pairs of (name of label 0, name of label 1) mean the same. Give None if the names do not tell.

    Parameters
    ----------
    classes, others : two str each

    Returns
    -------
    bool or None

    Examples
    --------
    >>> mean_the_same(("normal", "tumour"), ("benign", "malignant")), mean_the_same(("cat", "dog"), ("dog", "cat"))
    (True, False)
    """
    ours, theirs = which_is_tumour(classes), which_is_tumour(others)
    if ours is not None and theirs is not None:
        return ours == theirs
    (no, yes), (other_no, other_yes) = ([_tokens(name) for name in pair] for pair in (classes, others))
    if no == other_yes or yes == other_no:
        return False
    return True if no == other_no and yes == other_yes else None


def _words(name: str) -> int | None:
    """Say what the words of one name mean: 1 for tumour, 0 for no tumour, None if they do not tell."""
    tokens = _tokens(name)
    negated = any(token in _NOT for token in tokens) and len(tokens) > 1
    said = set()
    for token in tokens:
        glued = re.fullmatch(r"(?:non?|not)(\w+)", token)  # nontumour, notumour
        if _is(token, _TUMOUR, _YES):
            said.add(1)
        elif _is(token, _NORMAL, _NO if len(tokens) == 1 else _NO - _NOT) or (glued and _is(glued[1], _TUMOUR, _YES)):
            said.add(0)
    if negated:
        return 0 if said == {1} else None  # "not normal" may be anything
    return min(said, default=None)


def _is(token: str, begins: tuple[str, ...], whole: set[str]) -> bool:
    return token in whole or token.startswith(begins)


def _number(name: str) -> str | None:
    """Give the number in a name as it is written there, if the name holds exactly one."""
    found = re.findall(r"\d+", name)
    return found[0] if len(found) == 1 else None


def _tokens(name: str) -> list[str]:
    """Give the words and numbers of a name, in small letters without accents: 'IDC+' gives 'idc' and 'pos'."""
    name = re.sub(r"\+$", " pos", re.sub(r"-$", " neg", name.strip()))
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return re.findall(r"[^\W\d_]+|\d+", plain.casefold())
