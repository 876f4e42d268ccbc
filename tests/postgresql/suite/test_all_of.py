from support.adopted import adopt

adopt(
    globals(),
    "interface.test_all_of",
    without=(
        "test_one_that_cannot_be_made_leaves_none",
        "test_lock_that_is_lost_between_the_look_and_the_block_is_acquired_anew",
        "test_error_of_a_release_is_a_note_of_why_the_lock_was_not_to_be_had",
    ),
)
