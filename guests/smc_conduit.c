/*
 * smc_conduit: SMC whatever the device tree says, each instruction guarded.
 *
 * Below v4.16 KVM injects an UNDEF; up to v6.3 it answers -1 and leaves x1-x3 alone; since v6.4 it
 * handles an SMC like an HVC (linux arch/arm64/kvm/handle_exit.c:handle_smc), but answers -1 to an
 * immediate other than zero. What the firmware of a real machine does, the spec says: DEN0028
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"smc #0" console~"smc #1"
#include "lib/guest.h"

/* Sentinels in x1-x3 show whether the callee wrote there. PSCI_VERSION takes no arguments. */
#define SENTINEL_1 0x1111111111111111
#define SENTINEL_2 0x2222222222222222
#define SENTINEL_3 0x3333333333333333

static struct regs4 smc_with_immediate_1(u64 fid, struct args args) {
    register u64 x0 __asm__("x0") = fid;
    register u64 x1 __asm__("x1") = args.x1;
    register u64 x2 __asm__("x2") = args.x2;
    register u64 x3 __asm__("x3") = args.x3;
    __asm__ volatile("smc #1"
                     : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
                     :
                     : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
                       "x16", "x17", "cc", "memory");
    return (struct regs4){x0, x1, x2, x3};
}

static struct regs4 smc_with_immediate_0(u64 fid, struct args args) {
    return smccc_call(CONDUIT_SMC, fid, args);
}

static void report(const char *name, struct regs4 (*call)(u64, struct args)) {
    guard_arm();
    struct regs4 r = call(PSCI_VERSION, (struct args){SENTINEL_1, SENTINEL_2, SENTINEL_3});
    if (guard_hit()) {
        printf("%s: UNDEF, ESR 0x%016llx ELR 0x%016llx\n", name, guard.esr, guard.elr);
        return;
    }
    bool kept = r.x1 == SENTINEL_1 && r.x2 == SENTINEL_2 && r.x3 == SENTINEL_3;
    printf("%s: PSCI_VERSION = 0x%llx, x1-x3 %s\n", name, r.x0, kept ? "preserved" : "overwritten");
}

int main(const void *dtb) {
    machine_read(dtb);      /* for power_off() only */
    report("smc #0", smc_with_immediate_0);
    report("smc #1", smc_with_immediate_1);
    power_off();
}
