/* Handles of other libraries: none of them can be told from others here. */
#include "platform/windows/nt.h"

#include <errno.h>

int
os_find_numbers(struct os_inode inode, enum os_access access, struct os_numbers *numbers)
{
    (void)inode;
    (void)access;
    numbers->count = 0;
    return ENOSYS;
}

int
os_adopt(int descriptor, struct os_file *file)
{
    (void)descriptor;
    (void)file;
    return ENOSYS;
}

void
os_disown(struct os_file *file)
{
    os_close(file); /* it is our own */
}
