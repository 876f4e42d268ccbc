"""Locks past one machine: granted by a PostgreSQL server, for whoever reaches it.

>>> from lockfile.postgresql import PostgreSQLLock
>>> with PostgreSQLLock("nightly report", conninfo="host=db"):  # doctest: +SKIP
...     ...  # nobody else is in here, on whatever machine

The server grants, and its connection proves that the owner lives. It needs psycopg 3:
pip install "lockfile[postgresql]>=1".

caller       who calls
waits        what a call waits for, and the two ways to wait
session      one connection: statements, whether it lives, forks
connecting   how a connection is made, and which are refused
statements   the SQL
sources      where connections come from, and the free ones
holds        what this process owns, and who is told when it is lost
errors       the exceptions
looks        what is asked besides: who holds
notices      whoever waits is told whom for
attempt      acquire(), step by step
lines        of tasks that wait for one lock
steps        acquire(), for other loops
tokens       numbers that grow with every grant
lock         the class
"""

from lockfile.postgresql.holders import Holder
from lockfile.postgresql.lock import PostgreSQLLock

__all__ = ["Holder", "PostgreSQLLock"]
