from support.adopted import adopt

adopt(globals(), "interface.test_line", without=("test_loop_that_was_closed_is_forgotten",))
