"""Which tests are about POSIX, and so say nothing on Windows."""

from fnmatch import fnmatchcase

import pytest

STOPPED = "stops or fails a process at its system calls, by those of Linux"
FORKS = "there are no forks"
SIGNALS = "there are no signals but that of Ctrl-C"
USERS = "modes and users are POSIX's"
DESCRIPTORS = "what keeps a lock alive is no descriptor, which a program could close"

TEXT = "names are text, in UTF-16, and not any of it"
SPELLING = "paths are spelt in another way"
LINKS = "to make a symbolic link is a privilege"
PROCESSES = "what a process has open, and runs, is read in /proc"
POLLED = "coroutines look again and again there"
KEPT = "Wine keeps, and opens, the name of a removed file that is open"
RENAMED = "a directory in which something is open is not renamed"

# By folder.
FOLDERS = {
    "command": "terminals, signals and shells of POSIX; windows/test_command.py is instead",
    "site": "opens the documentation in a browser of Linux",
}

# By module.
MODULES = {
    "core/test_core.py": "drives the core by way of POSIX's floor",
    "interface/test_memory.py": "reads /proc",
    "mechanisms/test_database.py": "looks behind the connection by POSIX's means",
    "mechanisms/test_link.py": "looks at beacons by flock()",
    "mechanisms/test_link_deaths.py": STOPPED,
    "mechanisms/test_link_losses.py": STOPPED,
    "mechanisms/test_link_races.py": STOPPED,
    "mechanisms/test_mkdir.py": "looks at beacons by flock()",
    "mechanisms/test_mkdir_beside_link.py": "asks /proc how processes sleep",
    "mechanisms/test_mkdir_deaths.py": STOPPED,
    "mechanisms/test_mkdir_in_place.py": STOPPED,
    "mechanisms/test_mkdir_races.py": STOPPED,
    "mechanisms/test_symlink.py": LINKS,
    "mechanisms/test_heirs.py": FORKS,
    "mechanisms/test_inheritance.py": FORKS,
    "mechanisms/test_daemon.py": FORKS,
    "mechanisms/test_pid_file_model.py": FORKS,
    "mechanisms/test_sqlite.py": FORKS,
    "mechanisms/test_sqlite_failures.py": STOPPED,
    "mechanisms/test_sqlite_threads.py": "asks /proc what is open",
    "protocol/test_costs.py": "counts system calls of Linux",
    "protocol/test_descriptors.py": DESCRIPTORS,
    "protocol/test_disturbed.py": STOPPED,
    "protocol/test_exclusion.py": FORKS,
    "protocol/test_forks.py": FORKS,
    "protocol/test_found_sequences.py": FORKS,
    "protocol/test_hostile.py": USERS,
    "protocol/test_model.py": FORKS,
    "protocol/test_shared_model.py": FORKS,
    "protocol/test_signals.py": SIGNALS,
    "protocol/test_turns.py": "stops processes by signals",
    "protocol/test_waiting.py": "asks /proc how processes sleep",
    "systems/test_building.py": "builds for POSIX systems",
    "systems/test_failures.py": STOPPED,
    "systems/test_file_systems.py": "mounts file systems of Linux",
    "systems/test_floors.py": "is about the sources",
    "systems/test_network.py": "puts a library in front of the C library",
}

# By the name of a test, and what it is called with.
TESTS = {
    "*SymlinkLockFile*": LINKS,
    "test_closing_all_descriptors_*": DESCRIPTORS,
    "test_daemon_that_changed_directory_*": FORKS,
    "test_directory_without_write_permission*": USERS,
    "test_read_only_directory_is_locked_from_elsewhere*": USERS,
    "test_stale_lock_that_may_not_be_removed*": USERS,
    "test_fileno_*": DESCRIPTORS,
    "test_forked_child_*": FORKS,
    "test_child_process_owns_nothing_of_an_object*": FORKS,
    "test_process_is_the_calling_process*": FORKS,
    "test_signal_handler_*": SIGNALS,
    "test_what_a_signal_handler_raises_*": SIGNALS,
    "test_copy_of_a_path_that_is_no_text*": TEXT,
    "test_copy_of_a_subclass_with_other_arguments*": SPELLING,
    "test_path_of_an_exception_is_as_it_was_given*": TEXT,
    "test_name_that_is_no_text*": TEXT,
    "test_lock_file_of_an_unusual_name_*": TEXT,
    "test_unusual_names*": TEXT,
    "test_unusual_paths*": TEXT,
    "test_path_of_a_wrong_value*ud800*": TEXT,
    "test_wrong_values*ud800*": TEXT,
    "test_what_no_path_can_hold*": TEXT,
    "test_any_name*": TEXT,
    "test_any_way_to_a_path*": SPELLING,
    "test_locks_of_different_names_are_different_locks*": SPELLING,
    "test_lock_file_lies_beside_the_absolute_path*/README*": SPELLING,
    "test_path_itself_by_another_name_is_no_lock_file*": LINKS,
    "test_waiting_for_somebody_unknown*fifo*": "there are no such files",
    "test_waiting_for_somebody_unknown*link*": LINKS,
    "test_short_names_stand_for_the_mechanism_of_this_platform*": "is about the others",
    "test_exit_while_daemon_threads_wait*": "asks /proc how threads sleep",
    "test_order_is_that_of_resolved_directories*": LINKS,
    "test_what_is_named_twice_*": LINKS,
    "test_what_is_there_is_not_overwritten*None*": LINKS,
    "test_interrupted_while_it_waits_it_leaves_none*": SIGNALS,
    "test_it_may_fork*": FORKS,
    "test_it_may_close_all_descriptors*": DESCRIPTORS,
    "test_it_can_be_read_by_all_whatever_the_mask": USERS,
    "test_process_is_known_by_what_it_has_open": PROCESSES,
    "test_process_of_another_user_*": USERS,
    "test_command_of_*": PROCESSES,
    "test_modules_made_by_threads_*": PROCESSES,
    "test_thousand_tasks_wait_for_one_lock*": PROCESSES,
    "test_lock_file_of_another_program*": KEPT,
    "test_who_is_in_line_takes_no_step_of_its_own_*": POLLED,
    "test_path_that_is_too_long_for_sqlite": "SQLite takes longer paths there",
    "test_lock_file_whose_path_is_too_long_but_*": "Wine takes no path of that length",
    # readers
    "test_unique_name_and_descriptor*": DESCRIPTORS,
    "test_what_children_keep_is_not_downgraded*": FORKS,
    "test_reader_that_gave_way_*": STOPPED,
    "test_reader_killed_at_any_step_*": STOPPED,
    "test_first_reader_that_has_left_*": STOPPED,
    "test_lock_of_bytes_of_another_program_*": "locks bytes by fcntl()",
    "test_a_look_that_does_not_end_*": "looks by flock()",
    "test_upgrade_by_another_path_*": LINKS,
    "test_reader_does_not_wait_for_a_writer_that_is_stopped_*": SIGNALS,
    "test_reader_that_gives_way_*": PROCESSES,
    "test_reader_who_has_waited_for_a_writer_*": SIGNALS,
    "test_reader_that_does_not_wait_gives_no_way*": PROCESSES,
    "test_reader_whose_descriptors_were_closed_*": DESCRIPTORS,
    "test_readers_leave_no_descriptor*": DESCRIPTORS,
    # mechanisms/test_chosen_names.py
    "test_the_unique_file_bears_it": DESCRIPTORS,
    "test_it_is_readable_by_all_and_writable_by_its_user": USERS,
    "test_who_breaks_a_live_owners_lock_gets_it": KEPT,
    "test_a_stamped_file_with_contents_is_left_alone*": USERS,
    "test_a_link_of_that_name_is_not_followed": LINKS,
    # mechanisms/test_pid_file.py
    "test_mode*": USERS,
    "test_child_owns_nothing": FORKS,
    "test_own_number_of_a_live_process_is_not_believed": "locks a file by flock()",
    "test_owner_that_has_lost_its_pid_file*remove*": KEPT,
    "test_block_does_not_begin_with_what_was_broken_*": KEPT,
    "test_owner_that_has_lost_its_pid_file*replace*": "os.rename() replaces nothing there",
    "test_symbolic_link_is_not_followed": LINKS,
    "test_other_names_of_a_foreign_pid_file_are_left_alone*": USERS,
    "test_sweep_leaves_files_of_users": USERS,
    "test_thread_waits_for_another_of_its_process": PROCESSES,
    "test_path_itself_is_the_lock_file": SPELLING,
    "test_import_imports_no_module_that_takes_long": "Linux' Python has imported more by itself",
    "test_version": "the tree is tested, which is not installed there",
    "test_lock_of_a_replaced_directory_is_not_that_of_the_path*": RENAMED,
}


class SkippedModule(pytest.Module):
    """One that is not even imported."""

    def collect(self):
        pytest.skip(reason_to_skip(self.path), allow_module_level=True)


def reason_to_skip(path):
    """None: it is to be run."""
    folder, module = path.parts[-2:]
    return FOLDERS.get(folder) or MODULES.get(f"{folder}/{module}")


def skip_tests(items):
    for item in items:
        for name, reason in TESTS.items():
            if fnmatchcase(item.name, name):
                item.add_marker(pytest.mark.skip(reason=reason))
