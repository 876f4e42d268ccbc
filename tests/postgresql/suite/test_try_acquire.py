from support.adopted import adopt

adopt(
    globals(),
    "interface.test_try_acquire",
    without=("test_what_is_no_matter_of_being_held_is_raised",),
)
