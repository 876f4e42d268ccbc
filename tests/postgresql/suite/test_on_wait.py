from support.adopted import adopt

adopt(
    globals(),
    "interface.test_on_wait",
    without=(
        "test_it_may_acquire_the_lock_itself",
        "test_it_may_wait_for_the_lock_itself",
        "test_it_may_initialise_the_lock_object_anew",
        "test_it_may_never_return",
        "test_it_may_fork",
    ),
)
