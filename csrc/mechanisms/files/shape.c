#include "mechanisms/files/shape.h"

bool
shape_is_pid_file(const struct attempt *attempt)
{
    return attempt->lock->mechanism->claim == pid_claim;
}

const struct shape *
shape_of(const struct attempt *attempt, enum os_kind kind)
{
    return shape_is_pid_file(attempt) ? &pid_shape
           : kind == OS_DIRECTORY     ? &mkdir_shape
           : kind == OS_LINK          ? &symlink_shape
                                      : &link_shape;
}
