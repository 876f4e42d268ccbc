"""What cannot be had in the build that uses nothing but what all POSIX systems have.

`make portable` runs all tests with it. Those below are skipped there, each for a reason of its own.
"""

import pytest

import lockfile

BYTES = "no locks of bytes that go with an open file, and so no SQLiteFileLock"
WATCHES = "nothing to watch files with"
TURNS = "nobody sees who waits: no locks of bytes that go with an open file"
MARKS = "removals lock the directory: no locks of bytes that go with an open file"
RENAMES = "no rename that replaces nothing: lock directories are made, and removed, in place"
STRANDED = "a lock directory that is made in place may be stranded by a kill"
BIRTH = "nothing says when a file was born: a PID file that a child rewrote is not known again"
HEIRS = "children that rewrite a PID file take no turns: no locks of bytes"
CALLS = "the system calls are counted, or numbered, as Linux' are"

WHOLE = {
    "tests/mechanisms/test_sqlite.py": BYTES,
    "tests/mechanisms/test_database.py": BYTES,
    "tests/mechanisms/test_sqlite_failures.py": BYTES,
    "tests/mechanisms/test_sqlite_tasks.py": BYTES,
    "tests/mechanisms/test_sqlite_threads.py": BYTES,
    "tests/mechanisms/test_pid_file_model.py": BIRTH,
    "tests/command/test_doctor.py": "what it finds at a place is what Linux has there",
}

SINGLE = {
    BYTES: (
        *("test_row_is_called_by_the_lock_file_in_the_database_beside_it", "test_block"),
        *("test_row_in_a_database_elsewhere", "test_row_may_be_called_by_the_path_itself"),
        *("test_row_may_have_a_long_name", "test_database_whose_name_is_too_long_makes_no_files"),
        *("test_longest_name_of_a_database", "test_host_name_that_is_too_long_is_none_for_a_row"),
        *("test_path_that_is_too_long_for_sqlite", "test_symbolic_link_is_no_file_of_a_database"),
        "test_connection_of_the_program_while_other_programs_lock_files",
        "test_readers_of_rows_share_though_one_is_killed",
        *(
            "test_row_cannot_be_inherited",
            "test_modules_made_by_threads_share_what_the_interpreter_has",
        ),
        *("test_mixture_of_classes", "test_rows_of_two_databases_are_two_locks", "test_coroutines"),
        *("test_database_that_is_busy", "test_row_does_not_say_since_when"),
        "test_file_of_another_user_is_no_file_of_a_database",
        *("test_lock_file_and_database_may_be_named", "test_directory_is_listed"),
        "test_hard_link_to_a_file_of_ours_is_no_file_of_a_database",
        "test_database_keeps_its_journal_and_has_no_log",
        "test_forged_log_frees_no_lock",
        "test_forged_journal_in_the_place_of_one_that_was_rolled_back_frees_no_lock",
    ),
    WATCHES: (
        "test_waiters_sleep_while_the_directory_of_the_lock_is_busy",
        "test_release_is_told_by_an_event",
        "test_forked_child_has_no_descriptor_of_its_parents_locks",
        "test_signal_that_another_thread_takes_interrupts_the_next_long_sleep",
        "test_another_process_is_kept_out_and_woken_by_the_release",
        "test_contended_acquires_do_not_use_up_descriptors",
        "test_one_long_wait_keeps_no_more_watches_than_it_needs",
        "test_process_that_waits_no_more_keeps_one_watch",
        "test_waiters_do_not_wake_each_other",
        "test_waiting_takes_few_wake_ups",
        "test_system_calls_of_a_needless_wake_up",
        "test_beacon_that_still_burns_after_a_death_is_looked_at_again_soon",
    ),
    TURNS: (
        *("test_courtesy_is_owed_for_the_lock_that_was_released", "test_who_waits_is_counted"),
        "test_fourth_of_those_who_wait_naps",
        "test_nobody_waits_for_elders_that_are_stopped_or_killed",
        "test_who_naps_watches_at_last_while_the_lock_stays",
        "test_who_naps_watches_once_it_is_one_of_the_eldest",
        "test_who_released_lets_a_waiting_process_in_before_it_claims_again",
        "test_who_released_lets_a_waiting_thread_in_before_it_claims_again",
    ),
    MARKS: (
        "test_directory_is_never_locked_by_acquire_and_release",
        "test_process_stopped_in_a_look_keeps_nobody_from_recovering",
        "test_two_breakers_beside_a_look_that_does_not_end_make_one_owner",
        "test_program_that_keeps_the_directory_locked_disturbs_nobody",
        "test_program_that_locks_the_directory_for_itself_does_not_stop_us",
    ),
    CALLS: (
        *("test_system_calls_of_a_cycle", "test_fork_does_not_copy_a_beacon_in_the_making"),
        *("test_system_calls_of_a_cycle_in_a_database", "test_allocations_of_a_cycle"),
        "test_system_calls_of_a_first_reader",
        "test_lock_that_cannot_be_removed_makes_nobody_spin",
    ),
    RENAMES: (
        "test_release_whose_rename_fails_keeps_the_lock",
        "test_lock_directory_is_never_seen_without_its_unique_file",
        "test_stale_lock_that_may_not_be_renamed_is_held_with_the_reason",
        "test_stale_lock_that_may_only_be_renamed_is_broken_all_the_same",
    ),
}

# Of a class alone.
OF_MKDIR = {
    RENAMES: (
        "test_note_says_that_the_release_has_failed",
        "test_tasks_have_unique_files_of_their_own",
        "test_release_that_fails_says_that_the_caller_owns_still",
        "test_file_of_a_user_in_the_lock_directory_is_not_lost",
        "test_unique_name_is_the_real_one_through_any_object",
    ),
    STRANDED: (
        "test_processes_and_threads_exclude_each_other_though_some_are_killed",
        "test_things_in_the_way_at_system_calls",
        "test_owner_killed_at_any_step_of_acquire_and_release",
        "test_breaker_killed_at_any_step_leaves_the_rest_to_the_next",
    ),
}

OF_PID_FILES = {
    HEIRS: ("test_children_that_call_at_once_leave_no_name",),
    BIRTH: (
        "test_owner_that_closes_all_keeps_what_a_child_has_named",
        "test_child_that_closes_all_lights_the_beacon_when_it_is_the_last",
    ),
}


def reason_to_skip(item):
    """Why this test cannot be run there; None: it can."""
    name = getattr(item, "originalname", item.name)
    for file, reason in WHOLE.items():
        if item.nodeid.startswith(file):
            return reason
    for reason, names in SINGLE.items():
        if name in names:
            return reason
    if "SQLite" in item.nodeid:
        return BYTES
    parameters = getattr(item, "callspec", None)
    of_mkdir = parameters and lockfile.MkdirFileLock in parameters.params.values()
    of_mkdir = of_mkdir or "Mkdir" in item.nodeid or "/test_mkdir" in item.nodeid
    of_mkdir = of_mkdir and "[in place" not in item.nodeid  # that can be had
    of_class = OF_MKDIR if of_mkdir else OF_PID_FILES if "PIDLockFile" in item.nodeid else {}
    return next((reason for reason, names in of_class.items() if name in names), None)


def skip_tests(items):
    for item in items:
        reason = reason_to_skip(item)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
