/* Who and when; and threads of our own. */
#include "platform/windows/nt.h"

#include <stdlib.h>
#include <string.h>

#include <bcrypt.h>

int
os_process(void)
{
    return (int)GetCurrentProcessId();
}

/* There are no forks. */
uint64_t
os_generation(void)
{
    return 0;
}

uint64_t
os_forked_thread(void)
{
    return 0; /* none */
}

bool
os_has_forked(uint64_t *known)
{
    os_assert_locked();
    *known = 0;
    return false;
}

/* Whose a file is says nothing here about what may be done with it: that is asked by doing it. */
uint64_t
os_user(void)
{
    return 0;
}

uint64_t
os_thread(void)
{
    return GetCurrentThreadId();
}

uint64_t
os_new_token(void)
{
    static volatile LONG64 last;
    return (uint64_t)InterlockedIncrement64(&last);
}

/* Kept with the thread by the system: what compilers make of _Thread_local may need a library. */
static DWORD token_index = TLS_OUT_OF_INDEXES;

static BOOL CALLBACK
begin_tokens(INIT_ONCE *once, void *parameter, void **context)
{
    (void)once;
    (void)parameter;
    (void)context;
    token_index = TlsAlloc();
    return token_index != TLS_OUT_OF_INDEXES;
}

uint64_t
os_thread_token(void)
{
    static INIT_ONCE once = INIT_ONCE_STATIC_INIT;
    if (!InitOnceExecuteOnce(&once, begin_tokens, NULL, NULL)) {
        abort();
    }
    uint64_t token = (uint64_t)(uintptr_t)TlsGetValue(token_index);
    if (token == 0) {
        token = os_new_token();
        TlsSetValue(token_index, (void *)(uintptr_t)token);
    }
    return token;
}

int64_t
os_now(void)
{
    LARGE_INTEGER frequency, count;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&count);
    int64_t seconds = count.QuadPart / frequency.QuadPart;
    int64_t rest = count.QuadPart % frequency.QuadPart;
    return seconds * OS_SECOND + rest * OS_SECOND / frequency.QuadPart;
}

int64_t
os_date(void)
{
    FILETIME now;
    GetSystemTimePreciseAsFileTime(&now);
    return nt_date((int64_t)((uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime));
}

uint64_t
os_random(void)
{
    uint64_t number;
    if (BCryptGenRandom(NULL, (unsigned char *)&number, sizeof number,
                        BCRYPT_USE_SYSTEM_PREFERRED_RNG) == 0) {
        return number;
    }
    /* What differs between callers will do. */
    number = (uint64_t)os_now() ^ ((uint64_t)os_process() << 40) ^ os_thread();
    return number * UINT64_C(0x9E3779B97F4A7C15);
}

/* ---- Threads ---- */

#define SMALL_STACK (64 * 1024)

static DWORD WINAPI
work_aside(void *context)
{
    void (*work)(void);
    memcpy(&work, &context, sizeof work);
    work();
    return 0;
}

bool
os_do_aside(void (*work)(void))
{
    void *context;
    memcpy(&context, &work, sizeof context);
    HANDLE thread = CreateThread(NULL, SMALL_STACK, work_aside, context,
                                 STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (thread != NULL) {
        CloseHandle(thread);
    }
    return thread != NULL;
}
