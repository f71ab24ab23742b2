/*
 * fullerene_no_clobbers: a bare call in inline assembly.
 *
 * The statement writes w0 and makes the call, and says of no register that it changes. SYSTEM_RESET
 * does not return, so who cares? Where it is refused it does, and the compiler still has its
 * argument in x0: what is printed then is the text at address -1.
 * Right: x0 to x3 are outputs, x4 to x17 clobbered, and one place makes the calls (lib/call.c).
 */
// bug: 20 p14c31355/fullerene PR 348
// run: profile=kvm-6.12 cpus=1 deny=0x84000009
// caught: rule error-used-as-address
// caught: ending exit 70
#include "lib/guest.h"

/* 0x84000009 is SYSTEM_RESET. */
__attribute__((noinline)) static void reset(const char *unless) {
    __asm__ volatile("mov     w0, #9\n\t"
                     "movk    w0, #0x8400, lsl #16\n\t"
                     "hvc     #0");
    puts(unless);
}

int main(const void *dtb) {
    machine_read(dtb);
    if (machine.conduit == CONDUIT_HVC)
        reset("the machine does not want to be reset\n");
    power_off();
}
