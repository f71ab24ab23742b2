/*
 * probe_blind: the sinner. Everything here is what a guest must not do:
 *
 *   - it never reads the device tree, so HVC may be UNDEFINED: then the default vectors end it;
 *   - it uses vendor services without asking who the vendor is, and services never announced;
 *   - it calls in the wrong order, by both conduits;
 *   - it leaves garbage above bit 31 of function ids and of 32-bit arguments;
 *   - it takes NOT_SUPPORTED for a value.
 *
 * Nothing dies of it on KVM: every call has an answer. It prints what it believes to have learnt.
 * Its one mercy is not to follow the "stolen time address" it was given, and to guard its SMC.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"believes" console~"and so to bed"
#include "lib/guest.h"

#define GARBAGE 0xDEADBEEF00000000

static void believes(const char *what, u64 value) {
    printf("believes %-42s %016llx\n", what, value);
}

static void vendor_without_uid(void) {
    struct regs4 map = hvc(KVM_FEATURES);
    believes("vendor features (who is the vendor?)", map.x0);
    struct regs4 time = hvc(KVM_PTP, KVM_PTP_VIRTUAL);
    believes("wall clock, ns (never announced)", time.x0 << 32 | (u32)time.x1);
    believes("counter at that moment", time.x2 << 32 | (u32)time.x3);
}

static void services_never_announced(void) {
    u64 record = hvc(PV_TIME_ST).x0;
    believes("stolen time address", record);
    if (record == (u64)NOT_SUPPORTED)
        puts("         ... which is -1, and will not be read for once\n");
    believes("random number (did anybody say it is one?)", hvc(TRNG_RND64, 64).x3);
}

static void wrong_order(void) {
    believes("WORKAROUND_1 (version unknown)",
             hvc(SMCCC_ARCH_FEATURES, SMCCC_ARCH_WORKAROUND_1).x0);
    believes("SMCCC version (after having used it)", hvc(SMCCC_VERSION).x0);
    believes("PSCI_FEATURES before PSCI_VERSION", hvc(PSCI_FEATURES, SMCCC_VERSION).x0);
    believes("PSCI version at last", hvc(PSCI_VERSION).x0);
}

/* DEN0028: the function id is W0, and a 32-bit call's arguments are W1-W7. */
static void dirty_upper_halves(void) {
    believes("PSCI version, dirty function id", hvc(GARBAGE | PSCI_VERSION).x0);
    believes("WORKAROUND_1, dirty argument",
             hvc(SMCCC_ARCH_FEATURES, GARBAGE | SMCCC_ARCH_WORKAROUND_1).x0);
    believes("RND32 of 32 bits, dirty argument", hvc(TRNG_RND32, GARBAGE | 32).x3);
    believes("PSCI version, garbage in x1-x7",
             hvc(PSCI_VERSION, ~0ull, ~1ull, ~2ull, ~3ull, ~4ull, ~5ull, ~6ull).x0);
}

/* After a life of HVC, one SMC. Before linux v4.16 KVM injects an UNDEF for it. */
static void other_conduit(void) {
    guard_arm();
    u64 version = smc(PSCI_VERSION).x0;
    if (guard_hit())
        puts("believes SMC does not exist: UNDEF\n");
    else
        believes("PSCI version by the other conduit", version);
}

int main(const void *dtb) {
    (void)dtb;      /* who reads documentation? */
    vendor_without_uid();
    services_never_announced();
    wrong_order();
    dirty_upper_halves();
    other_conduit();
    puts("and so to bed\n");
    hvc(PSCI_SYSTEM_OFF);
    return 0;
}
