from support.adopted import adopt

adopt(
    globals(),
    "protocol.test_forks",
    without=(
        "test_exec_ends_the_ownership",  # these three end here when the server has seen it
        "test_child_that_lives_on_does_not_keep_its_killed_parents_lock",
        "test_program_that_is_started_does_not_keep_the_lock",
        "test_forked_child_has_no_descriptor_of_its_parents_locks",
    ),
)
