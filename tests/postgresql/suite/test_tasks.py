from support.adopted import adopt

# Connecting lets other greenlets run, so who is first is another question: see test_greenlets.py.
adopt(
    globals(),
    "interface.test_tasks",
    without=(
        "test_greenlet_that_waits_lets_the_others_run",
        "test_greenlets_exclude_each_other_where_threading_is_patched",
    ),
)
