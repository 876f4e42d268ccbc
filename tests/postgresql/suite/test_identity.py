from support.adopted import adopt

adopt(globals(), "protocol.test_identity")
