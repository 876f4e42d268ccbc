from support.adopted import adopt

adopt(
    globals(),
    "interface.test_arguments",
    without=(
        "test_kinds_of_paths",
        "test_lock_file_lies_beside_the_absolute_path",
        "test_path_is_fixed_at_construction",
    ),
)
