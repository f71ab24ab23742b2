/*
 * tfa_on_pending: SUCCESS is taken for "it runs".
 *
 * CPU_ON returns when the CPU has been asked for; until it executes, the state is ON_PENDING. The
 * firmware of the issue set that state too late, and callers that never looked were the ones to
 * notice. This one reads the secondary's mailbox after a fixed wait, which is long enough here.
 * Right: wait until the secondary has said so, with a limit; AFFINITY_INFO tells the rest.
 */
// bug: 32 tf-issues#302, bao afd11d8
// run: profile=kvm-6.12 cpus=2
// caught: mutant crash by "CPU_ON cpu-late"
#include "lib/guest.h"

struct percpu { u64 mpidr; };
static struct percpu data;
static struct percpu *volatile mailbox;

void secondary_main(u64 context, unsigned cpu) {
    (void)context;
    data.mpidr = cpu_mpidr[cpu];
    mailbox = &data;
}

static void settle(u64 time) {
    for (u64 end = counter() + time; counter() < end;)
        relax();
}

int main(const void *dtb) {
    machine_read(dtb);
    if (machine.cpus < 2 ||
        (s32)firmware(PSCI_CPU_ON_64, cpu_mpidr[1], (u64)secondary_start, 0).x0 != PSCI_SUCCESS)
        power_off();
    settle(milliseconds(1) / 10);
    printf("cpu with mpidr %llx is up\n", mailbox->mpidr);
    power_off();
}
