from support.adopted import adopt

adopt(
    globals(),
    "protocol.test_exit",
    without=(
        "test_end_without_farewell_leaves_a_lock_that_the_next_recovers",
        "test_exit_while_daemon_threads_lock",
    ),
)
