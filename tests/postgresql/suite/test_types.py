from support.adopted import adopt

adopt(
    globals(),
    "interface.test_types",
    without=(
        "test_patched_acquire_is_undone",
        "test_signature_of_methods",
        "test_signature_of_the_constructor",
    ),
)
