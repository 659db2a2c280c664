"""Files that are whole or not there: writing that cannot leave half a file, reading that cannot run away."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from hauberk.errors import InputError


def write_atomically(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write a file so that, whatever happens, `path` holds either all of `data` or what it held before.

    The bytes go to a temporary file in the same folder, reach the disk, and only then take the name. A symbolic link is
    followed: the file that it leads to is replaced.

    Args:
        path: Where to write; its folder must exist.
        data: The whole content.
        mode: Permission bits, exactly; `None` gives what the user's umask allows.

    Raises:
        InputError: The folder is missing or not writable, the disk is full, or `path` is something other than a file.
    """
    with draft(path) as temporary:
        try:
            _write_new(temporary, data, mode)
        except OSError as error:
            raise InputError(f"{path}: cannot write: {_reason(error, temporary)}") from error


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its name when the block ends well, and is removed when it does not.

    For what has to be looked at before it may replace what `path` held. The block writes with `write_atomically`.

    Raises:
        InputError: `path` is something other than a file, or the folder does not let the draft take its name.
    """
    target = _file_to_write(path)
    temporary = target.with_name(f".{target.name[:100]}.{os.urandom(8).hex()}.tmp")
    try:
        yield temporary
        try:
            temporary.replace(target)
            _settle(target.parent)
        except OSError as error:
            raise InputError(f"{path}: cannot write: {_reason(error, target)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_once(path: Path, data: bytes, *, mode: int) -> bool:
    """Write a file that must not be there yet; of several processes that try at once, exactly one succeeds.

    Args:
        path: Where to write; its folder must exist.
        data: The whole content.
        mode: Permission bits, exactly, from the first moment on.

    Returns:
        Whether this call made the file; False where something of that name was there, which is left as it is.

    Raises:
        InputError: The folder is missing or not writable, or the disk is full.
    """
    temporary = path.with_name(f".{path.name[:100]}.{os.urandom(8).hex()}.tmp")
    try:
        _write_new(temporary, data, mode)
        os.link(temporary, path)  # unlike a rename, a link never replaces what is there
        _settle(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise InputError(f"{path}: cannot write: {_reason(error, path)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def write_folder(folder: Path, files: Mapping[str, bytes | memoryview]) -> None:
    """Make a folder with these files, all of it or nothing.

    Args:
        folder: Must not exist or be empty; its parent must exist.
        files: Content by name relative to the folder, with `/` between parts; the caller vouches for the names.

    Raises:
        InputError: The folder holds something, or cannot be written.
    """
    import shutil  # noqa: PLC0415 - 5 ms of compression modules that reading a bundle does not need

    target = Path(os.path.realpath(folder))
    temporary = target.with_name(f".{target.name[:100]}.{os.urandom(8).hex()}.tmp")
    try:
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            _write_new(temporary / name, content, None)
        temporary.rename(target)  # takes the place of an empty folder, and of nothing else
        _settle(target.parent)
    except OSError as error:
        taken = error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
        reason = "something is there already; choose another" if taken else _reason(error, target)
        raise InputError(f"{folder}: cannot write: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_bounded(path: Path, limit: int, *, private: bool = False) -> bytes:
    """Read a whole file into memory, unless it is longer than `limit` bytes.

    Args:
        path: What to read.
        limit: The most bytes that are read.
        private: Refuse a file that anyone but its owner may read.

    Raises:
        InputError: There is no such file, it is not a regular file (a pipe would never end), cannot be read, is longer
            than `limit`, or should be private and is not.
    """
    pieces: list[bytes] = []
    length = 0
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path}: not a regular file; name a file")
            if private and status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise InputError(f"{path}: mode {mode:04o} lets others read it; run 'chmod 600 {path}'")
            while length <= limit and (
                piece := os.read(descriptor, min(max(status.st_size, 1 << 16), limit + 1 - length))
            ):
                pieces.append(piece)
                length += len(piece)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {(error.strerror or str(error)).lower()}") from error
    if length > limit:
        raise InputError(f"{path}: longer than {limit} bytes, the most that is read of such a file")
    return b"".join(pieces)


def open_below(folder: Path, location: str) -> tuple[int, os.stat_result]:
    """Open a file below a folder for reading, part by part: no symbolic link on the way leads anywhere.

    Whoever may write to the folder can put one there at any time, so looking at a path before it is opened is not
    enough. What is no regular file is not even opened, unless it is put there in that moment: there are devices to
    which that does something.

    Args:
        folder: Followed as it is.
        location: Names joined by `/`.

    Returns:
        The descriptor, which the caller closes, and what it leads to.

    Raises:
        OSError: It is missing, behind a link, no regular file, or not below the folder.
        ValueError: It is no path.
    """
    *folders, name = location.split("/")
    if not {"", ".", ".."}.isdisjoint((*folders, name)):
        raise OSError(errno.EINVAL, "not a path below the folder")
    entered = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    way = [os.open(folder, entered)]
    try:
        for part in folders:
            way.append(os.open(part, entered | os.O_NOFOLLOW, dir_fd=way[-1]))
        _require_regular(os.stat(name, dir_fd=way[-1], follow_symlinks=False))
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=way[-1])
    finally:
        for descriptor in way:
            os.close(descriptor)
    try:
        status = os.fstat(found)
        _require_regular(status)
    except BaseException:
        os.close(found)
        raise
    return found, status


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def _file_to_write(path: Path) -> Path:
    """The file that writing `path` would make or replace.

    Raises:
        InputError: Something other than a file is there, or this user may not even look.
    """
    target = Path(os.path.realpath(path))
    try:
        is_other = not stat.S_ISREG(target.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return target
    except OSError as error:
        raise InputError(f"{path}: cannot write: {_reason(error, target)}") from error
    if is_other:
        raise InputError(f"{path}: cannot write: this is not a regular file; name a file")
    return target


def _write_new(path: Path, data: bytes | memoryview, mode: int | None) -> None:
    """Create `path`, which must not exist, with its final permissions, and bring `data` to the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(path, flags, 0o666 if mode is None else 0o600), "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Bring a folder's new entry to the disk, where the file system knows how."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError, path: Path) -> str:
    if error.errno == errno.ENOENT:
        return f"the folder {path.parent} does not exist; make it first"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"the folder {path.parent} is not writable; choose another"
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return "no space left on the disk; nothing was written"
    return (error.strerror or str(error)).lower()


def require_writable(path: Path) -> None:
    """Find out before long work whether its result could be written.

    Raises:
        InputError: The folder of `path` is missing or not writable, or `path` is something other than a file.
    """
    target = _file_to_write(path)
    if not target.parent.is_dir():
        raise InputError(f"{path}: cannot write: the folder {target.parent} does not exist; make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot write: the folder {target.parent} is not writable; choose another")
