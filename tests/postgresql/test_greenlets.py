"""Greenlets of gevent and of eventlet, whose waits at the server let the others run."""

from support.greenlets import each_package, greenlets

TURNS = """
    told = []

    def hold():
        with lock:
            told.append("holds")
            while "waits" not in told:
                let_others_run()
            told.append("held")

    def wait():
        while "holds" not in told:
            let_others_run()
        with type(lock)(lock.path, on_wait=lambda owner: told.append("waits")):
            told.append("waited")

    for _ in range(5):
        told.clear()
        run(hold, wait)
        say([told, lock.is_locked()])
    """


@each_package
def test_greenlet_that_waits_lets_the_others_run(lock_class, path, patch):
    with greenlets(patch, TURNS, lock_class, path) as child:
        for _ in range(5):
            assert child.hear() == [["holds", "waits", "held", "waited"], False]


EXCLUSION = """
    inside, most, turns = [], [], []

    def cycle():
        for _ in range(20):
            with lock:
                inside.append(1)
                let_others_run()
                most.append(len(inside))
                inside.pop()
            turns.append(1)

    run(*[cycle] * 5)
    say([max(most), len(turns), lock.is_locked()])
    """


@each_package
def test_greenlets_exclude_each_other(lock_class, path, patch):
    with greenlets(patch, EXCLUSION, lock_class, path) as child:
        assert child.hear() == [1, 100, False]
