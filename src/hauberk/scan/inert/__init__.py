"""What no loader of models interprets: pictures, sound, text. In the order of asking."""

from hauberk.scan.formats import Format
from hauberk.scan.inert.media import MEDIA
from hauberk.scan.inert.text import TEXT

FORMATS: tuple[Format, ...] = (MEDIA, TEXT)
