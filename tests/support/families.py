"""Forked children, which may have inherited a lock."""

import os
import sys


class forked_child:
    """A forked child of this process, which can be asked for methods of a lock."""

    def __init__(self, lock):
        self.lock = lock

    def __enter__(self):
        self.question, questions = os.pipe()
        answers, self.answer = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(questions)
            os.close(answers)
            self.serve()
        os.close(self.question)
        os.close(self.answer)
        self.questions, self.answers = questions, answers
        return self.ask

    def serve(self):
        try:
            while method := os.read(self.question, 100).decode():
                try:
                    result = getattr(self.lock, method)()
                except Exception as error:
                    result = type(error).__name__
                os.write(self.answer, repr(result).encode())
        finally:
            os._exit(0)

    def ask(self, method):
        os.write(self.questions, method.encode())
        return eval(os.read(self.answers, 1000), {"lockfile": sys.modules["lockfile"]})

    def __exit__(self, *exception):
        os.close(self.questions)
        os.close(self.answers)
        os.waitpid(self.process, 0)


def in_child(function):
    """What a forked child of this process gets from a call; its copies go away with it."""
    answers, answer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            result = repr(function())
        except BaseException as error:
            result = repr(f"{type(error).__name__}: {error}")
        os.write(answer, result.encode())
        os._exit(0)
    os.close(answer)
    with open(answers) as file:
        result = file.read()
    os.waitpid(process, 0)
    return eval(result)
