"""What no loader of models interprets: pictures, sound, text, what Hauberk has encrypted. In the order of asking."""

from hauberk.scan.formats import Format
from hauberk.scan.inert.media import MEDIA
from hauberk.scan.inert.sealed import SEALED
from hauberk.scan.inert.text import TEXT

FORMATS: tuple[Format, ...] = (MEDIA, SEALED, TEXT)
