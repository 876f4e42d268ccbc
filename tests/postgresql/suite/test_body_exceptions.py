from support.adopted import adopt

adopt(
    globals(),
    "interface.test_body_exceptions",
    without=(
        "test_body_exception_goes_on_and_has_a_note_of_the_broken_lock",
        "test_blocks_of_several_locks_add_a_note_each",
        "test_handled_exception_around_the_block_is_none_of_its_body",
        "test_what_the_body_exception_says_itself_is_no_note",
    ),
)
