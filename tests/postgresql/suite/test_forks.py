from support.adopted import adopt

adopt(
    globals(),
    "protocol.test_forks",
    without=(
        "test_exec_ends_the_ownership",  # here when the server has seen it
        "test_forked_child_has_no_descriptor_of_its_parents_locks",
    ),
)
