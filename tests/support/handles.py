"""What other programs on Windows have open, and how they share it."""

import contextlib
import ctypes

READ, WRITE, DELETE = 1, 2, 4  # share modes
ALL = READ | WRITE | DELETE
LIST, ADD_FILE, DELETE_ACCESS = 0x1, 0x2, 0x10000  # rights

OPEN_EXISTING = 3
BACKUP_SEMANTICS = 0x02000000  # directories, too
INVALID = ctypes.c_void_p(-1).value


def open_handle(path, access, share):
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateFileW.restype = ctypes.c_void_p
    handle = kernel.CreateFileW(
        str(path), access, share, None, OPEN_EXISTING, BACKUP_SEMANTICS, None
    )
    if handle == INVALID:
        raise ctypes.WinError(ctypes.get_last_error())
    return handle


def close_handle(handle):
    ctypes.WinDLL("kernel32").CloseHandle(ctypes.c_void_p(handle))


@contextlib.contextmanager
def opened(path, access=LIST, share=ALL):
    """As a scanner, a backup or an editor may have it open."""
    handle = open_handle(path, access, share)
    try:
        yield handle
    finally:
        close_handle(handle)
