"""The SQL. Names are written out: what a database has in its search path is none of ours."""

# What they are named as when a lock is claimed, and what they are on the server, come before what
# they do: $2 first, $1 then.
_PID = "pg_catalog.pg_backend_pid()"
_MICROSECONDS = "(pg_catalog.extract('epoch', {}) * 1000000)::bigint"


def _claim(function: str, setting: str = "") -> bytes:
    source = f" FROM pg_catalog.set_config({setting})" if setting else ""
    return f"SELECT pg_catalog.{function}($1::bigint), {_PID}{source}".encode()


_NAMED = "'application_name', $2, false"
_TIMED = "'lock_timeout', $2, true"

# By whether the lock is shared.
TRY = {
    False: _claim("pg_try_advisory_lock"),
    True: _claim("pg_try_advisory_lock_shared"),
}
TRY_NAMED = {
    False: _claim("pg_try_advisory_lock", _NAMED),
    True: _claim("pg_try_advisory_lock_shared", _NAMED),
}
# $2: milliseconds. The time is set for this statement only; rows of FROM come first.
WAIT = {
    False: _claim("pg_advisory_lock", _TIMED),
    True: _claim("pg_advisory_lock_shared", _TIMED),
}
UNLOCK = {
    False: b"SELECT pg_catalog.pg_advisory_unlock($1::bigint)",
    True: b"SELECT pg_catalog.pg_advisory_unlock_shared($1::bigint)",
}

# By the clock that grants are known by.
NOW = f"SELECT {_MICROSECONDS.format('pg_catalog.statement_timestamp()')}".encode()

# ---- A connection that is new ----

# Milliseconds and seconds. Who is cut off must know before the server gives its locks to others:
# it hears the server, or it has ended 3 s after it heard it last. The server, which asks after
# 2 s of silence, waits for 10 s.
CLIENT_SECONDS = 3
_SERVER_SECONDS = 10

SETTINGS = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": str(_SERVER_SECONDS - 2),
    "tcp_user_timeout": str(_SERVER_SECONDS * 1000),
    "client_min_messages": "error",
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",  # for tokens, whatever the role has it set to
    "client_encoding": "UTF8",  # as we write names
}

_settings = ", ".join(
    f"CASE WHEN pg_catalog.current_setting('{name}', true) IS NOT NULL"
    f" THEN pg_catalog.set_config('{name}', '{value}', false) END"
    for name, value in SETTINGS.items()
)

# Who serves us, whether it may write, and what scope locks have: one run of one server, and a
# database.
INTRODUCE = f"""SELECT {_PID}, pg_catalog.pg_is_in_recovery(),
    pg_catalog.current_setting('transaction_read_only')::boolean,
    pg_catalog.extract('epoch', pg_catalog.pg_postmaster_start_time()),
    (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
    {_settings}""".encode()

# In seconds.
AGE = b"""SELECT pg_catalog.extract('epoch', pg_catalog.clock_timestamp() - backend_start)
    FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())"""

# A server that cannot do it says so, and does without.
CHECK_CLIENT = b"SELECT pg_catalog.set_config('client_connection_check_interval', '1000', false)"

# ---- Who holds a lock ----

_HOLDERS = """FROM pg_catalog.pg_locks AS l
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (
        SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND l.classid = (($1::bigint >> 32) & 4294967295)::oid
    AND l.objid = ($1::bigint & 4294967295)::oid"""

# $2: since then or longer, or for how long is hidden, is what the last column says; NULL: all.
HOLDERS = f"""SELECT l.pid, {_MICROSECONDS.format("a.backend_start")},
    {_MICROSECONDS.format("a.query_start")}, {_MICROSECONDS.format("a.state_change")},
    a.application_name, l.mode = 'ShareLock',
    coalesce({_MICROSECONDS.format("a.state_change")} <= $2::bigint, true)
    {_HOLDERS} ORDER BY a.state_change""".encode()

# Exactly that process, in the session and after the statement that was seen; waits for its end.
TERMINATE = f"""SELECT pg_catalog.pg_terminate_backend(l.pid, 5000) {_HOLDERS}
    AND l.pid = $2::integer
    AND {_MICROSECONDS.format("a.backend_start")} IS NOT DISTINCT FROM $3::bigint
    AND {_MICROSECONDS.format("a.query_start")} IS NOT DISTINCT FROM $4::bigint""".encode()

# ---- Tokens ----

MAKE_TOKENS = b"""CREATE TABLE IF NOT EXISTS public.lockfile_tokens
    (key bigint PRIMARY KEY, name text NOT NULL, token bigint NOT NULL)"""

# Whoever keeps the row from us does not cost us the lock: a server that is silent for too long is
# left. The time is set first, and for this statement only.
COUNT_TOKEN = b"""INSERT INTO public.lockfile_tokens AS t
    SELECT $1::bigint, $2, 1 FROM pg_catalog.set_config('lock_timeout', '5000', true)
    ON CONFLICT (key) DO UPDATE SET token = t.token + 1 RETURNING token"""
