"""What the command ends with; 73, 75 and 76 are those of sysexits.h that come nearest."""

DONE = 0
NO = 1
USAGE = 2
CANNOT = 73
HELD = 75
LOST = 76
NOT_RUN = 126
NOT_FOUND = 127
SIGNALLED = 128

TABLE = """\
  0      done; run: the command's own status, whatever it is
  1      the answer is no: nobody holds a lock (who), nothing was broken
         (break), no lock works here (doctor)
  2      wrong usage
  73     the file system did not let us: no such directory, no permission, ...
  75     somebody else holds the lock; run -E names another status
  76     the lock was lost while the command ran
  126    the command was found, but could not be run
  127    the command was not found
  128+N  the command was ended by signal N
"""
