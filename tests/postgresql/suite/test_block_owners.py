from support.adopted import adopt

adopt(
    globals(),
    "interface.test_block_owners",
    without=("test_coroutine_that_is_collected_after_its_loop",),
)
