from support.adopted import adopt

adopt(
    globals(),
    "interface.test_messages",
    without=(
        "test_missing_directory_is_named_with_the_reason",
        "test_unusual_paths",
    ),
)
