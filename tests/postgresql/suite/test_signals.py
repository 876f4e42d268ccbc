from support.adopted import adopt

adopt(
    globals(),
    "protocol.test_signals",
    without=(
        "test_handler_may_release_at_any_moment",
        "test_keyboard_interrupt_comes_at_once_and_leaves_nothing",
        "test_handler_that_returns_lets_the_wait_go_on",
    ),
)
