"""Children of tests of PostgreSQLLock find it where they find the other classes."""

import lockfile
from lockfile.postgresql import PostgreSQLLock

lockfile.PostgreSQLLock = PostgreSQLLock
