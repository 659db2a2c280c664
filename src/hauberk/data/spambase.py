"""Spambase, the data set that comes with Hauberk: e-mails as 57 numbers, ham or spam."""

from __future__ import annotations

from pathlib import Path

from hauberk.data.known import KnownDataSet, SourceFile
from hauberk.data.readers import parse_delimited

# Words of the recipient's own surroundings: his name, his employer, its telephone numbers.
_RECIPIENT = frozenset(
    f"word_freq_{word}" for word in ("george", "hp", "hpl", "lab", "labs", "650", "857", "415", "85")
)


def _folder() -> Path:
    return Path(__file__).parent / "bundled"


def _mutable(column: str) -> bool:
    return column not in _RECIPIENT


SPAMBASE = KnownDataSet(
    name="spambase",
    title="4,597 e-mails described by word, character and capital-letter counts: ham or spam",
    publisher="UCI Machine Learning Repository (https://doi.org/10.24432/C53G6X); comes with Hauberk",
    citation=(
        "Hopkins, M., Reeber, E., Forman, G., and Suermondt, J. (1999). Spambase [Dataset]. "
        "UCI Machine Learning Repository. https://doi.org/10.24432/C53G6X"
    ),
    licence="CC BY 4.0",
    files=(SourceFile("spambase.csv.gz", "77bae1e38dec22ef82ff77cc17e8b54ee111b4f0f1ffb2cb3cd9486e4621dc38", 4597),),
    folder=_folder,
    parse=parse_delimited,
    label="class",
    benign="ham",
    classes=(),
    mutable=_mutable,
    booleans=frozenset(),
    adversary=(
        "A bulk sender writes one message for many recipients: every count of the message can change, except the words "
        "of this recipient's own name, employer and telephone number."
    ),
    has_test_file=False,
)
"""Spambase, bundled; `bundled/ATTRIBUTION.md` says how the file was made."""
