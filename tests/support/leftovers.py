"""What a test may have left open, or on disk."""

import contextlib
import os
import socket
import sqlite3

import support
from support.databases import TABLE


def descriptors():
    """What this process has open, but for what it keeps for later."""
    found = set()
    if support.IS_WINDOWS:
        return found  # handles of ours are none of the C library's descriptors
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the descriptor that listed this directory
        if target != "anon_inode:inotify" and not support.is_databases(target):
            found.add((number, target))
    return found


def left_behind(directory):
    """Lock files, unique files and rows anywhere below a directory."""
    host = socket.gethostname().replace("/", "_")
    found = []
    for where, directories, files in os.walk(directory):
        for name in directories + files:
            if name.endswith(".lock") or name.startswith(host + "-"):
                found.append(os.path.join(where, name))
        if ".lockfile.sqlite3" in files:
            found += rows_in(os.path.join(where, ".lockfile.sqlite3"))
    return found


def rows_in(database):
    """The rows of locks in a database; none if it is not one."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        try:
            return connection.execute(f"SELECT * FROM {TABLE}").fetchall()
        except sqlite3.Error:
            return []
