"""Which candidate wins, measured cheap first.

`prepare` admits and exports a model, `search` makes candidates and measures them, `look_once` looks at the test split,
`conclude` puts it all into `Findings`.
"""

from hauberk.search.candidate import Candidate, Subject
from hauberk.search.conclude import conclude
from hauberk.search.findings import Findings
from hauberk.search.last_look import LastLook, look_once
from hauberk.search.prepare import Adversary, ModelSource, prepare
from hauberk.search.run import SearchResult, search

__all__ = [
    "Adversary",
    "Candidate",
    "Findings",
    "LastLook",
    "ModelSource",
    "SearchResult",
    "Subject",
    "conclude",
    "look_once",
    "prepare",
    "search",
]
