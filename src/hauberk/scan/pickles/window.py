"""The part of a content that a machine looks at: it moves forward only, and knows where frames end."""

from __future__ import annotations

from hauberk.scan.content import Content, CutError
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.entries import Reporter
from hauberk.scan.report import Rule

KEPT = 1024
"""Bytes of the longest string that is kept; longer ones are stepped over."""
_WINDOW = 1 << 18
_TEXT_BLOCK, _DECODED = 1 << 20, 64 << 20
_MARGIN = KEPT + 64  # no instruction with a kept argument is longer, so none reaches over a window's end
ABSURD_LENGTH = 1 << 28
"""Bytes claimed beyond the end of the content: some readers reserve the memory before they look."""


class Window:
    """Bytes of a content from a place on.

    Args:
        content: Looked at.
        reporter: Is told what is found.
        start: Where the window begins at first.

    Attributes:
        data: The bytes in the window.
        base: Where they begin in the content.
        final: They reach to its end.
        limit: How far in `data` instructions may begin before the window, or the frame, has to be looked after.
        frame_end: In the content; 0 outside frames.
    """

    def __init__(self, content: Content, reporter: Reporter, start: int) -> None:
        self.content = content
        self.reporter = reporter
        self.data = b""
        self.base = start
        self.final = False
        self.limit = 0
        self.frame_end = 0

    def find(self, rule: Rule, what: str, at: int) -> None:
        """Report something at a byte of the content."""
        self.reporter.find(rule, what, at=at)

    def refill(self, offset: int) -> None:
        """Let the window begin at `offset` of the content.

        Raises:
            CutError: The content ends before.
            StopScan: Time is up.
        """
        self.reporter.check_time()
        size = self.content.size
        # What was read is not read again: going back in a compressed content costs unpacking it from its start.
        rest = self.data[offset - self.base :] if offset >= self.base else b""
        on = offset + len(rest)
        self.data = rest + self.content.read(on, max(0, min(_WINDOW - len(rest), size - on)))
        self.base = offset
        self.final = offset + len(self.data) >= size
        self.set_limit()

    def follow_on(self, other: Window) -> None:
        """Take over what another window of the same content has read."""
        self.data, self.base = other.data, other.base

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the content, from the window as far as they lie in it.

        Raises:
            CutError: The content ends before.
        """
        inside = offset - self.base
        kept = self.data[inside : inside + length] if inside >= 0 else b""
        missing = length - len(kept)
        return kept + self.content.read(offset + len(kept), missing) if missing else kept

    def set_limit(self) -> None:
        """Find `limit` anew, after the window or the frame has changed."""
        self.limit = len(self.data) if self.final else len(self.data) - _MARGIN
        if self.frame_end > self.base:
            self.limit = min(self.limit, self.frame_end - self.base)

    def enter_frame(self, at: int, length: int) -> None:
        """A frame of so many bytes begins behind an instruction of nine bytes at `at`."""
        self.leave_frame(at - self.base)
        if self.frame_end > at:
            self.find(rules.CROSSED, "a frame begins inside another", at)
        self.frame_end = at + 9 + length
        over = self.frame_end - self.content.size
        if over > 0:
            rule = rules.EXHAUSTS if over > ABSURD_LENGTH else rules.FRAME
            self.find(rule, f"a frame of {length} bytes reaches beyond the end", at)
        self.set_limit()

    def leave_frame(self, position: int) -> None:
        """See whether the frame ends where an instruction does, if it has ended.

        Args:
            position: In the window, where an instruction has ended.
        """
        if 0 < self.frame_end <= self.base + position:
            if self.frame_end < self.base + position:
                self.find(rules.CROSSED, "an instruction begins in a frame and ends behind it", self.frame_end)
            self.frame_end = 0
            self.set_limit()

    def step_over(self, start: int, length: int) -> int:
        """Where to go on in the window behind a string that is not looked at.

        Args:
            start: Of the string, in the window.
            length: As the pickle claims.

        Raises:
            CutError: The content ends before it does.
        """
        offset = self.base + start
        over = offset + length - self.content.size
        if over > 0:
            if over > ABSURD_LENGTH:
                self.find(rules.EXHAUSTS, f"claims a string of {length} bytes, where it ends {over} before", offset)
            raise CutError("a string that is cut")
        if start + length <= len(self.data):
            return start + length
        self.refill(offset + length)
        return 0

    def check_text(self, offset: int, length: int) -> None:
        """Decode a text that is not kept, as loaders do, in blocks that end where a character begins.

        Only its first 64 MiB: a loader that stumbles later does nothing more than stop.

        Args:
            offset: Of the text, in the content.
            length: In bytes; it lies in the content.

        Raises:
            UnicodeDecodeError: It is no UTF-8; a lone surrogate is allowed, as in Python.
        """
        end, last = offset + length, offset + min(length, _DECODED)
        while offset < last:
            self.reporter.check_time()
            block = self.content.read(offset, min(_TEXT_BLOCK, end - offset))
            if offset + len(block) < end:
                begins = next((back for back in range(1, 5) if block[-back] & 0xC0 != 0x80), 0)
                block = block[:-begins] if begins else block
            block.decode("utf-8", "surrogatepass")
            offset += len(block)
