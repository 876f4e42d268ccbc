from support.adopted import adopt

adopt(
    globals(),
    "interface.test_exceptions",
    without=("test_failure_says_what_was_asked_for",),
)
