/*
 * optee_context_id: the context id dies in the first instruction.
 *
 * A secondary is entered with the context id of CPU_ON in x0, and that is all it is given. OP-TEE's
 * PSCI lost it on the way; here the guest does: it is the stack, and the entry stub asks for its
 * own number first, in x0.
 * Right: move x0 to safety before anything else, and set VBAR_EL1 early.
 */
// bug: 33 optee_os PR 2169
// run: profile=kvm-6.12 cpus=2 max-cycles=4000000
// caught: rule secondary-unprepared
// caught: ending fault 121
#include "lib/guest.h"

__asm__(".text\n"
        "entry:\n"
        "    mrs     x0, mpidr_el1\n"           /* the context id is gone */
        "    and     x1, x0, #0xff\n"
        "    mov     sp, x0\n"
        "    str     x1, [sp, #-16]!\n"
        "    b       hello_from_secondary\n");
void entry(void);

static volatile bool up;
static u64 stack[64] __attribute__((aligned(16)));

void hello_from_secondary(void) {
    up = true;
    for (;;)
        __asm__ volatile("wfi");
}

int main(const void *dtb) {
    machine_read(dtb);
    u64 top = (u64)(stack + LENGTH(stack));
    if (machine.cpus > 1)
        firmware(PSCI_CPU_ON_64, cpu_mpidr[1], (u64)entry, top);
    for (u64 end = counter() + milliseconds(1); counter() < end && !up;)
        relax();
    printf("cpu 1: %s\n", up ? "on" : "no sign of life");
    power_off();
}
