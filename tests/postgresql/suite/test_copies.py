from support.adopted import adopt

adopt(
    globals(),
    "interface.test_copies",
    without=("test_nonsense_from_a_pickle",),
)
