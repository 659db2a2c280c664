"""A zip archive behind a model: the files that belong to the metadata of a TensorFlow Lite model, labels for example.

Whoever writes such metadata opens the model with a zip writer and adds files. The interpreter reads the front and takes
no notice of the end, readers of zip archives the other way round; so each half is examined for its own readers, and the
archive must be one that no other kind of reader wants anything of.
Source: https://ai.google.dev/edge/litert/models/metadata (models with associated files).
"""

from __future__ import annotations

from hauberk.scan.archives.kinds import zip_kinds
from hauberk.scan.archives.zip import open_zip
from hauberk.scan.content import Content
from hauberk.scan.examination import Examination

PLAIN = "zip"


def examine_attached(content: Content, examination: Examination) -> str:
    """Examine the archive at the end of a content, and everything in it if it is nothing but an archive.

    Args:
        content: Ends as a zip archive (`hauberk.scan.overlays.archive_end`).
        examination: Reported to.

    Returns:
        What kind of archive it is; `PLAIN` where its members have been examined.

    Raises:
        StopScan: It cannot be followed; the finding is noted.
    """
    archive = open_zip(content, examination, attached=True)
    kind = next(kind for kind in zip_kinds() if kind.recognise(archive))
    if kind.name == PLAIN:
        kind.examine(archive, examination)
    return kind.name
