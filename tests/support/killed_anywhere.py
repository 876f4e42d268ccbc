"""A program whose processes lock and are killed anywhere, and which finds two owners at once."""

# A holder marks the time that it holds with a symbolic link that bears its name: made
# first thing, removed last thing, so that two holders at once meet at one of the two.
# Only a holder that was killed leaves its mark, and only when it is seen to be dead
# does its successor remove it.
KILLED_ANYWHERE = """
    import mmap, random, signal
    from support.protocol import is_proven_dead

    class Overlap(Exception):
        pass

    class_name, directory, marks, seconds, wanted = sys.argv[1:]
    lock_class = getattr(lockfile, class_name)
    mark, overlaps = os.path.join(marks, "mark"), os.path.join(marks, "overlaps")
    shared = mmap.mmap(-1, 4096)  # [0]: stop; [8:]: how often each of the workers held
    WORKERS, STOP = 5, 0

    def enter(name):
        while True:
            try:
                return os.symlink(name, mark)
            except FileExistsError:
                pass
            holder = os.readlink(mark)  # it is gone: it was alive, and so an overlap
            process = int(holder.partition("-")[0])
            deadline = time.monotonic() + PATIENCE
            while not is_proven_dead(process):
                if time.monotonic() > deadline or os.readlink(mark) != holder:
                    raise Overlap(f"{name} beside {holder}")
                time.sleep(0.001)
            os.unlink(mark)

    def leave(name):
        holder = os.readlink(mark)
        if holder != name:
            raise Overlap(f"{name} beside {holder}")
        os.unlink(mark)

    def hold(lock, worker, name):
        chance = random.Random(name)
        turn = 0
        while not shared[STOP]:
            turn += 1
            if chance.random() < 0.2:
                try:
                    lock.acquire(timeout=chance.choice([0, 0.001, 0.01]))
                except (lockfile.AlreadyLocked, lockfile.LockTimeout):
                    continue
            else:
                lock.acquire(timeout=PATIENCE)
            enter(f"{name}-{turn}")
            if chance.random() < 0.3:
                time.sleep(chance.random() * 0.002)
            leave(f"{name}-{turn}")
            count = slice(8 * (worker + 1), 8 * (worker + 2))
            shared[count] = (int.from_bytes(shared[count], "big") + 1).to_bytes(8, "big")
            lock.release()

    def guarded(lock, worker, name):
        try:
            hold(lock, worker, name)
        except BaseException as error:
            with open(overlaps, "a") as log:
                log.write(f"{type(error).__name__}: {error}\\n")
            shared[STOP] = 1

    def work(worker):
        path = os.path.join(directory, "README")
        if worker % 5 == 0:  # one thread, process-wide
            guarded(lock_class(path, threaded=False), worker, f"{os.getpid()}-0")
            return
        one = lock_class(path)
        locks = [one, one if worker % 2 else lock_class(path), lock_class(path)]
        threads = [
            threading.Thread(target=guarded, args=(lock, worker, f"{os.getpid()}-{number}"))
            for number, lock in enumerate(locks)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def start(worker):
        process = os.fork()
        if process == 0:
            work(worker)
            os._exit(0)
        return process

    def holds(worker):
        return int.from_bytes(shared[8 * (worker + 1) : 8 * (worker + 2)], "big")

    # When time is up, those who have not held often enough are killed no more.
    chance, kills, wanted = random.Random(), 0, int(wanted)
    workers = [start(worker) for worker in range(WORKERS)]
    mortals = list(range(WORKERS))
    end = time.monotonic() + float(seconds)
    while not shared[STOP]:
        time.sleep(chance.random() * 0.06)
        if time.monotonic() >= end:
            mortals = [worker for worker in range(WORKERS) if holds(worker) >= wanted]
            if kills >= wanted and len(mortals) == WORKERS:
                break
        if not mortals:
            continue
        worker = chance.choice(mortals)
        os.kill(workers[worker], signal.SIGKILL)
        os.waitpid(workers[worker], 0)
        workers[worker] = start(worker)
        kills += 1
    shared[STOP] = 1
    for process in workers:
        os.waitpid(process, 0)
    say({"kills": kills, "holds": [holds(worker) for worker in range(WORKERS)]})
    """
