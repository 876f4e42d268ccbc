from support.adopted import adopt

adopt(globals(), "interface.test_threads")
