from support.adopted import adopt

adopt(
    globals(),
    "interface.test_owner",
    without=(
        "test_command_of_this_process",
        "test_exceptions_do_not_look_for_them",
        "test_command_of_another_process",
    ),
)
