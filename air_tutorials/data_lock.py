"""One process of a machine prepares a directory, the others wait and find it whole, whatever crashes in between.

The lock is the operating system's (``flock``, by way of filelock): the kernel frees it the moment its holder dies. It
holds between the processes and threads of a machine, and between machines that share a disk where its filesystem passes
locks on (NFS does, unless mounted with ``nolock``). Elsewhere each machine builds, and the first to finish provides.
"""

import errno
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from air_tutorials.errors import (
    AirTutorialsError,
    ConfigError,
    DamagedDataError,
    DataLockTimeoutError,
    DataNotWritableError,
    DownloadError,
)

# The last one: the directory is a mount point, onto which nothing can be renamed.
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBUSY)
# The modules of the exceptions that a failed request and a damaged archive raise; to import them here would be slow.
_NETWORK = {"http.client", "ssl", "urllib.error"}
_UNPACKING = {"_lzma", "gzip", "tarfile", "zipfile", "zlib"}
# On a shared disk another machine's builder may be alive; one that added nothing for so long is not.
_ABANDONED_AFTER_S = 24 * 3600.0


@contextmanager
def data_lock(root: str | os.PathLike[str], *, timeout_s: float = 600.0) -> Iterator[Path]:
    """Let one process at a time, and one thread of it, work on a directory.

    Use it as ``with data_lock("~/data") as root: datasets.MNIST(root, download=True)``.

    The lock is a small file beside the directory, ``.data.lock`` in the parent of ``data``. It is never deleted: while
    one process waits on it, the next would lock a new file of that name, and both would get in. A link and its target
    share a lock. The thread that holds it, with its coroutines, gets it again at once; a process forked by it does not.

    Args:
        root: the directory; a leading ``~`` is the home directory. Missing parents are created, it itself is not.
        timeout_s: how long to wait for the lock, in seconds; 0 tries once, ``math.inf`` waits for ever.

    Yields:
        The directory, with ``~`` expanded.

    Raises:
        DataLockTimeoutError: another process or thread kept it; wait for the one that the message names, or end it.
        DataNotWritableError: the lock cannot be created beside the directory; choose one where you may write.
        ConfigError: ``timeout_s`` is negative or not a number.
    """
    if not timeout_s >= 0:
        raise ConfigError(f"timeout_s={timeout_s} must be 0 or more seconds; math.inf waits for ever.")
    root = Path(root).expanduser()
    target = Path(os.path.realpath(root))
    lock_path = target.parent / f".{target.name}.lock"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A singleton is re-entrant. Each thread still opens the file for itself, so that threads wait for each other.
        lock = FileLock(lock_path, is_singleton=True).acquire(timeout=timeout_s)
    except Timeout:
        raise DataLockTimeoutError(
            f"The lock of {root} was not free within {timeout_s:g} s, {_read_holder(lock_path)} holds it. Wait for it "
            "with a larger timeout_s, or end it: its lock is free at once."
        ) from None
    except OSError as error:
        raise _not_writable(target, error) from error
    with lock:
        # Only so that a timeout can name the holder. To empty the file first would cost a wait for the disk (on ext4).
        with suppress(OSError), open(lock_path, "r+") as file:
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.truncate()
        yield root


def prepare_once(directory: str | os.PathLike[str], build: Callable[[Path], None], *, timeout_s: float = 600.0) -> Path:
    """Build a directory exactly once a machine; whoever comes meanwhile waits and then finds it whole.

    ``build`` fills a temporary directory beside the target, which is flushed to the disk and then renamed into place. A
    process killed at any moment, or a power cut, so leaves nothing or everything; what a dead builder left beside the
    target is removed by the next one.

    A directory is whole when it exists and is not empty, whoever made it, and then no lock is taken; an empty one is
    replaced. Remove the directory to have it built anew.

    Args:
        directory: what to prepare; a leading ``~`` is the home directory, a symbolic link is followed.
        build: fills the empty directory that it is given, and stores no absolute path in it, for it will be renamed.
        timeout_s: how long to wait for another builder, in seconds; the build itself is not limited.

    Returns:
        The directory, with ``~`` expanded.

    Raises:
        DataLockTimeoutError: another builder takes longer; wait for the one that the message names, or end it.
        DataNotWritableError: no permission, a read-only or a full disk; make room, or choose another directory.
        DownloadError: ``build`` could not fetch from a server; call again when it can be reached.
        DamagedDataError: what ``build`` fetched is damaged: call again; it wrote nothing; or the path leads to a file.
        Exception: whatever else ``build`` raises, unchanged. No error leaves anything behind.
    """
    directory = Path(directory).expanduser()
    if not _is_whole(directory):
        with data_lock(directory, timeout_s=timeout_s):
            # Somebody else may have built it while this process waited.
            if not _is_whole(directory):
                _build_into_place(Path(os.path.realpath(directory)), build)
    return directory


def _is_whole(directory: Path) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(entries)
    except FileNotFoundError:
        return False
    except NotADirectoryError as error:
        raise DamagedDataError(
            f"{directory} is no directory: it or a part of its path is a file. Move that, or choose another directory."
        ) from error
    except OSError as error:
        raise _not_writable(directory, error) from error


def _build_into_place(target: Path, build: Callable[[Path], None]) -> None:
    prefix = f".{target.name}.building-"
    temporary = target.parent / f"{prefix}{socket.gethostname()}-{secrets.token_hex(4)}"
    try:
        _sweep(target.parent, prefix)
        temporary.mkdir()
        build(temporary)
        if not _is_whole(temporary):
            raise DamagedDataError(f"{target} was not prepared: build wrote nothing. Let it fill the path it is given.")
        for parent, _, names in os.walk(temporary, topdown=False):
            for path in (*(os.path.join(parent, name) for name in names), parent):
                _flush(path)
        try:
            temporary.rename(target)
        except OSError:
            # Where machines share a disk but no locks, another one may have been first.
            if not _is_whole(target):
                raise
        _flush(target.parent)
    except Exception as error:
        # Explained before the temporary directory goes, so that the free bytes are those of the failure.
        explained = _explain(error, target)
        if explained is None:
            raise
        raise explained from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove what dead builders left: with the lock held, no builder of this machine is alive."""
    for left in [path for path in parent.iterdir() if path.name.startswith(prefix)]:
        with suppress(FileNotFoundError):
            # All but the last part: another machine's name may begin with this one's.
            this_machines = left.name.rpartition("-")[0] == f"{prefix}{socket.gethostname()}"
            if this_machines or time.time() - left.lstat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)


def _flush(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or a directory's list of names, is on the disk."""
    if os.path.islink(path) or os.name == "nt":  # a link lies in its directory's list; Windows flushes no directories
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network filesystems flush no directories either.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _explain(error: Exception, target: Path) -> AirTutorialsError | None:
    """Return what to tell the caller of ``prepare_once``, or None when the error speaks for itself."""
    if isinstance(error, AirTutorialsError):
        return None
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    failure = f"{target} was not prepared, and nothing was kept"
    modules = {kind.__module__ for kind in type(error).__mro__}
    # Torchvision reports damage as a RuntimeError, and so it does a failed request when it has tried several mirrors.
    from_torchvision = reason if isinstance(error, RuntimeError) else ""
    if modules & _UNPACKING or isinstance(error, EOFError) or "not found or corrupted" in from_torchvision:
        return DamagedDataError(f"{failure}: what arrived is damaged ({reason}). The next try downloads it anew.")
    lost = isinstance(error, ConnectionError | TimeoutError) or from_torchvision.startswith("Error downloading")
    if modules & _NETWORK or lost:
        return DownloadError(f"{failure}: the download failed ({reason}). Try again when the server can be reached.")
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        # A build may also be denied a file that lies elsewhere, which is its own matter.
        at_target = error.filename is None or str(error.filename).startswith(str(target.parent))
        return _not_writable(target, error) if at_target else None
    return None


def _not_writable(path: Path, error: OSError) -> DataNotWritableError:
    free_bytes = shutil.disk_usage(next(place for place in (path, *path.parents) if os.path.exists(place))).free
    return DataNotWritableError(
        f"Cannot prepare {path}: {error.strerror or error} ({free_bytes:,} bytes free). Make room, or get the right to "
        "write there, or choose another directory."
    )


def _read_holder(lock_path: Path) -> str:
    with suppress(OSError):
        return lock_path.read_text() or "another process"
    return "another process"
