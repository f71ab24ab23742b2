/*
 * semihosting: the debugger's calls by HLT #0xF000 (ARM-software/abi-aa semihosting.rst): the
 * console as files named ":tt", single characters, the clock, the end.
 *
 * It echoes one line of input, and ends with status 42.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=42 console~"semihosting: handles ok"
#include "lib/guest.h"

#define STATUS 42

/* fopen() modes, SYS_OPEN: "r" of ":tt" is standard input, "w" standard output. */
#define MODE_R 0
#define MODE_W 4

#define LONGEST_LINE 80

static s64 open_console(u64 mode) {
    const char *name = ":tt";
    const u64 block[3] = {(u64)name, mode, strlen(name)};
    return (s64)semihost(SYS_OPEN, block);
}

static u64 write(s64 handle, const char *text) {
    const u64 block[3] = {(u64)handle, (u64)text, strlen(text)};
    return semihost(SYS_WRITE, block);      /* the number of bytes NOT written */
}

static u64 close(s64 handle) {
    const u64 block[1] = {(u64)handle};
    return semihost(SYS_CLOSE, block);
}

/* SYS_READC gives the next byte of standard input; at its end, -1. */
static void echo_line(void) {
    unsigned length = 0;
    s32 c = 0;
    semihost(SYS_WRITE0, "echo: ");
    while (length < LONGEST_LINE && (c = (s32)semihost(SYS_READC, 0)) >= 0 && c != '\n') {
        semihost(SYS_WRITEC, &(char){(char)c});
        length++;
    }
    semihost(SYS_WRITEC, "\n");
    printf("semihosting: %u characters read%s\n", length, c < 0 ? ", then the end of input" : "");
}

int main(const void *dtb) {
    (void)dtb;
    s64 input = open_console(MODE_R), output = open_console(MODE_W);
    u64 unwritten = write(output, "written through SYS_WRITE\n");
    bool ok = input >= 0 && output >= 0 && input != output && unwritten == 0;
    echo_line();
    s64 clock = (s64)semihost(SYS_CLOCK, 0);    /* hundredths of a second since the start */
    ok = ok && clock >= 0;
    printf("semihosting: clock %s\n", clock >= 0 ? "runs" : "refused");
    ok = close(input) == 0 && close(output) == 0 && ok;
    printf("semihosting: handles %s\n", ok ? "ok" : "FAIL");
    exit_with(ok ? STATUS : 1);
}
