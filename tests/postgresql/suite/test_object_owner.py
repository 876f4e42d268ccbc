from support.adopted import adopt

adopt(
    globals(),
    "interface.test_object_owner",
    without=(
        "test_object_that_means_another_lock_by_now_releases_what_it_owns",
        "test_object_whose_class_tells_another_lock_releases_what_it_owns",
    ),
)
