/*
 * kvm_cpu_on_32: CPU_ON by its 32-bit identifier, with 64-bit arguments.
 *
 * It used to work: KVM took the registers whole. Since it holds 64-bit guests to the convention an
 * SMC32 call has 32-bit arguments, and the context id arrives without its upper half.
 * Right: 0xC4000003 wherever an argument is an address or a context.
 */
// bug: 44 linux merge 9e5e19f58529
// run: profile=kvm-6.12 cpus=2
// caught: rule dirty-arguments
#include "lib/guest.h"

#define PSCI_CPU_ON_32 0x84000003
#define CONTEXT        0x5EED000000000001

static volatile u64 seen;

void secondary_main(u64 context, unsigned cpu) {
    (void)cpu;
    seen = context;
    firmware(PSCI_CPU_OFF);
}

int main(const void *dtb) {
    machine_read(dtb);
    if (machine.cpus < 2)
        power_off();
    s32 result = (s32)firmware(PSCI_CPU_ON_32, cpu_mpidr[1], (u64)secondary_start, CONTEXT).x0;
    while (result == PSCI_SUCCESS && !seen)
        relax();
    printf("context id %llx: %s\n", seen, seen == CONTEXT ? "ok" : "half of it is lost");
    power_off();
}
