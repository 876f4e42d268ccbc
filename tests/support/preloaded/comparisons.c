/* Counts comparisons of strings in a thread: to be preloaded. */
static __thread long counted;

long
comparisons(void)
{
    return counted;
}

int
strcmp(const char *one, const char *other)
{
    const unsigned char *left = (const unsigned char *)one;
    const unsigned char *right = (const unsigned char *)other;
    counted++;
    while (*left != '\0' && *left == *right) {
        left++;
        right++;
    }
    return *left - *right;
}
