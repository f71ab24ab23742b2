/*
 * zephyr_on_again: a CPU can be switched on once.
 *
 * The entry stub takes the function to run from a mailbox and clears it, as a sign that it has
 * started. After CPU_OFF the next CPU_ON succeeds, and the stub branches to address 0.
 * Right: whoever calls CPU_ON fills the mailbox, every time.
 */
// bug: 34 zephyr PR 64951
// run: profile=kvm-6.12 cpus=2 max-cycles=8000000
// caught: rule secondary-unprepared
// caught: ending fault 121
#include "lib/guest.h"

typedef void function(void);
static function *volatile mailbox;
static u64 stack[512] __attribute__((aligned(16)));

__asm__(".text\n"
        "entry:\n"
        "    mov     sp, x0\n"
        "    adrp    x1, mailbox\n"
        "    add     x1, x1, :lo12:mailbox\n"
        "    ldr     x2, [x1]\n"
        "    str     xzr, [x1]\n"
        "    br      x2\n");
void entry(void);

static void run(void) { firmware(PSCI_CPU_OFF); }

static void cpu_on(void) {
    firmware(PSCI_CPU_ON_64, cpu_mpidr[1], (u64)entry, (u64)(stack + LENGTH(stack)));
    for (u64 end = counter() + milliseconds(2); counter() < end;)
        if ((s32)firmware(PSCI_AFFINITY_INFO_64, cpu_mpidr[1], 0).x0 == PSCI_OFF)
            return;
}

int main(const void *dtb) {
    machine_read(dtb);
    if (machine.cpus < 2)
        power_off();
    mailbox = run;
    cpu_on();
    puts("cpu 1: on and off\n");
    cpu_on();
    puts("cpu 1: on and off again\n");
    power_off();
}
