from support.adopted import adopt

adopt(
    globals(),
    "interface.test_attributes",
    without=("test_owner_of_a_stale_lock_is_dead",),
)
