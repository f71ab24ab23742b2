/*
 * kut_entry_in_c: CPU_ON into a C function.
 *
 * A compiled function begins by saving registers on the stack. A CPU that was just switched on has
 * neither a stack nor vectors: the store aborts, the abort's vector aborts, and so for ever.
 * Right: an entry point in assembler that sets SP and VBAR_EL1 (guests/lib/start.S).
 */
// bug: 35 kvm-unit-tests e14e6ba5
// run: profile=kvm-6.12 cpus=2 max-cycles=4000000
// caught: rule secondary-unprepared
// caught: ending fault 121
#include "lib/guest.h"

static volatile unsigned online = 1;

void secondary_in_c(u64 context) {
    printf("cpu %llu says hello\n", context);
    online++;
    for (;;)
        __asm__ volatile("wfi");
}

int main(const void *dtb) {
    machine_read(dtb);
    if (machine.cpus > 1)
        firmware(PSCI_CPU_ON_64, cpu_mpidr[1], (u64)secondary_in_c, 1);
    for (u64 end = counter() + milliseconds(1); counter() < end && online < 2;)
        relax();
    printf("%u CPUs online\n", online);
    power_off();
}
