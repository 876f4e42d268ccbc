from support.adopted import adopt

adopt(
    globals(),
    "interface.test_on_wait_in_tasks",
    without=(
        "test_it_may_end_the_steps",  # the server learns of it within a second
        "test_all_in_line_are_told",
        "test_it_may_acquire_the_lock_for_its_task",
        "test_greenlet_is_told_whom_it_waits_for",
        "test_steps_say_when_they_are_to_tell",
        "test_it_may_take_a_step",
        "test_it_may_take_the_last_step",
    ),
)
