/*
 * smccc_discover: what lies below, found without one illegal call.
 *
 * The order is that of linux v6.17 (setup_arch -> psci_dt_init -> psci_probe, then the initcalls):
 * the conduit from the device tree, PSCI_VERSION, MIGRATE_INFO_TYPE, PSCI_FEATURES(SMCCC_VERSION),
 * SMCCC_VERSION, TRNG, the PSCI features, the vendor's UID, the architecture workarounds,
 * PV time. No service is used that was not announced by an earlier answer.
 * One line per finding: the call, its x0, and what that means.
 *
 * Without /psci in the device tree nothing is promised. Then it makes one guarded HVC, and reports
 * when even that instruction is UNDEFINED.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"PSCI_VERSION" console~"nothing was used that was not announced"
#include "lib/guest.h"

#define STATUS_NO_EL2 3

/* For 32-bit calls: the upper half of x0 says nothing (DEN0028). */
static void finding(const char *name, u64 value, const char *meaning) {
    printf("%-34s 0x%08x  %s\n", name, (u32)value, meaning);
}

static bool is_negative(u64 value) { return (s32)value < 0; }

static const char *presence(u64 value) { return is_negative(value) ? "absent" : "present"; }

static void version_line(const char *name, u32 value) {
    printf("%-34s 0x%08x  version %u.%u\n", name, value, value >> 16 & 0x7FFF, value & 0xFFFF);
}

/* ---- PSCI, DEN0022 ---- */

static void migrate_info(void) {
    static const char *types[] = {"single-CPU trusted OS, can migrate",
                                  "single-CPU trusted OS, cannot migrate",
                                  "no trusted OS that is bound to a CPU"};
    u32 type = (u32)firmware(PSCI_MIGRATE_INFO_TYPE).x0;
    finding("MIGRATE_INFO_TYPE", type, type < LENGTH(types) ? types[type] : "not implemented");
    if (type < 2)
        finding("MIGRATE_INFO_UP_CPU", firmware(PSCI_MIGRATE_INFO_UP_CPU_64).x0, "its CPU's MPIDR");
}

static void psci_feature(const char *name, u32 fid) {
    u64 flags = firmware(PSCI_FEATURES, fid).x0;
    finding(name, flags, presence(flags));
}

static void psci_features(void) {
    psci_feature("PSCI_FEATURES(CPU_SUSPEND)", PSCI_CPU_SUSPEND_64);
    psci_feature("PSCI_FEATURES(SYSTEM_SUSPEND)", PSCI_SYSTEM_SUSPEND_64);
    psci_feature("PSCI_FEATURES(SYSTEM_RESET2)", PSCI_SYSTEM_RESET2_64);
    psci_feature("PSCI_FEATURES(SYSTEM_OFF2)", PSCI_SYSTEM_OFF2_64);
}

/* ---- SMCCC itself, DEN0028 ---- */

/* Any answer but -1 counts as "present": Hafnium answers with a version. */
static u32 find_smccc_version(void) {
    u64 known = firmware(PSCI_FEATURES, SMCCC_VERSION).x0;
    finding("PSCI_FEATURES(SMCCC_VERSION)", known, presence(known));
    if ((s32)known == NOT_SUPPORTED) {
        puts("SMCCC 1.0: neither SMCCC_VERSION nor anything newer may be called\n");
        return SMCCC_1_0;
    }
    u64 version = firmware(SMCCC_VERSION).x0;
    if (is_negative(version)) {
        finding("SMCCC_VERSION", version, "an error: taken as 1.0");
        return SMCCC_1_0;
    }
    version_line("SMCCC_VERSION", version);
    return (u32)version;
}

static u64 arch_feature(const char *name, u32 fid, const char *const meanings[2]) {
    u64 answer = firmware(SMCCC_ARCH_FEATURES, fid).x0;
    const char *meaning = is_negative(answer)  ? "not implemented"
                          : (u32)answer < 2    ? meanings[(u32)answer]
                                               : "unknown answer";
    if (fid == SMCCC_ARCH_WORKAROUND_2 && (s32)answer == -2)
        meaning = "not required on any CPU";
    finding(name, answer, meaning);
    return answer;
}

static void workarounds(void) {
    static const char *const meanings[] = {"there, and this CPU needs it",
                                           "there, but this CPU is not affected"};
    arch_feature("ARCH_FEATURES(WORKAROUND_1)", SMCCC_ARCH_WORKAROUND_1, meanings);
    arch_feature("ARCH_FEATURES(WORKAROUND_2)", SMCCC_ARCH_WORKAROUND_2, meanings);
    arch_feature("ARCH_FEATURES(WORKAROUND_3)", SMCCC_ARCH_WORKAROUND_3, meanings);
}

static void soc_id(void) {
    static const char *const meanings[] = {"present", "present"};
    if (is_negative(arch_feature("ARCH_FEATURES(SOC_ID)", SMCCC_ARCH_SOC_ID, meanings)))
        return;
    finding("SOC_ID(0)", firmware(SMCCC_ARCH_SOC_ID, 0).x0, "JEP-106 code and SoC id");
    finding("SOC_ID(1)", firmware(SMCCC_ARCH_SOC_ID, 1).x0, "revision");
}

/* ---- TRNG, DEN0098 ---- */

static void trng_seed(void) {
    struct regs4 seed = firmware(TRNG_RND64, 64);
    if (seed.x0 == 0)
        printf("%-34s 0x%016llx  64 bits of entropy\n", "TRNG_RND64(64)", seed.x3);
    else
        finding("TRNG_RND64(64)", seed.x0,
                (s32)seed.x0 == TRNG_NO_ENTROPY ? "no entropy now" : "an error");
}

static void trng_uuid(void) {
    struct regs4 uuid = firmware(TRNG_GET_UUID);
    printf("%-34s ", "TRNG_GET_UUID");
    print_uuid((u32[]){(u32)uuid.x0, (u32)uuid.x1, (u32)uuid.x2, (u32)uuid.x3});
    putc('\n');
}

static void trng(void) {
    u64 version = firmware(TRNG_VERSION).x0;
    if ((s32)version < TRNG_1_0) {
        finding("TRNG_VERSION", version, "absent");
        return;
    }
    version_line("TRNG_VERSION", version);
    u64 rnd64 = firmware(TRNG_FEATURES, TRNG_RND64).x0;
    finding("TRNG_FEATURES(RND64)", rnd64, presence(rnd64));
    u64 uuid = firmware(TRNG_FEATURES, TRNG_GET_UUID).x0;
    finding("TRNG_FEATURES(GET_UUID)", uuid, presence(uuid));
    if (!is_negative(uuid))
        trng_uuid();
    if (!is_negative(rnd64))
        trng_seed();
}

/* ---- the vendor's services: KVM's, of include/linux/arm-smccc.h ---- */

static void kvm_ptp(void) {
    struct regs4 time = firmware(KVM_PTP, KVM_PTP_VIRTUAL);
    if (time.x0 == (u64)NOT_SUPPORTED)
        finding("PTP(virtual)", time.x0, "announced, but not with this clock source");
    else
        printf("%-34s %llu ns  wall clock at virtual count %llu\n", "PTP(virtual)",
               time.x0 << 32 | (u32)time.x1, time.x2 << 32 | (u32)time.x3);
}

static void kvm_features(void) {
    struct regs4 map = firmware(KVM_FEATURES);
    printf("%-34s 0x%08x %08x %08x %08x  functions 0-31, 32-63, 64-95, 96-127\n", "KVM features",
           (u32)map.x0, (u32)map.x1, (u32)map.x2, (u32)map.x3);
    if (map.x0 & KVM_FEATURE_PTP)
        kvm_ptp();
    else
        finding("PTP", 0, "not announced");
}

static void vendor(void) {
    if (machine.conduit != CONDUIT_HVC) {
        puts("vendor UID                         not asked: the conduit is SMC\n");
        return;
    }
    struct regs4 uid = firmware(VENDOR_HYP_CALL_UID);
    u32 words[4] = {(u32)uid.x0, (u32)uid.x1, (u32)uid.x2, (u32)uid.x3};
    if (words[0] == (u32)NOT_SUPPORTED) {
        finding("vendor UID", uid.x0, "no vendor services");
        return;
    }
    printf("%-34s ", "vendor UID");
    print_uuid(words);
    printf("  %s\n", vendor_name(words));
    if (is_kvm(words))
        kvm_features();
}

/* ---- PV time, DEN0057 ---- */

static void pv_time(void) {
    static const char *const meanings[] = {"present", "present"};
    if ((u32)arch_feature("ARCH_FEATURES(PV_TIME_FEATURES)", PV_TIME_FEATURES, meanings))
        return;
    u64 stolen = firmware(PV_TIME_FEATURES, PV_TIME_ST).x0;
    finding("PV_TIME_FEATURES(PV_TIME_ST)", stolen, presence(stolen));
    if (stolen != 0)
        return;
    u64 record = firmware(PV_TIME_ST).x0;
    finding("PV_TIME_ST", record,
            record == (u64)NOT_SUPPORTED ? "no record for this CPU" : "this CPU's record");
}

/* ---- the whole ---- */

static void since_psci_1_0(void) {
    u32 version = find_smccc_version();
    if (version >= SMCCC_1_1)
        trng();
    psci_features();
    if (version < SMCCC_1_1)
        return;
    vendor();
    workarounds();
    if (version >= SMCCC_1_2)
        soc_id();
    pv_time();
}

static void discover(void) {
    u64 version = firmware(PSCI_VERSION).x0;
    version_line("PSCI_VERSION", version);
    migrate_info();
    if ((s32)version >= PSCI_1_0)
        since_psci_1_0();
    else
        puts("before PSCI 1.0: SMCCC 1.0, and nothing more to discover\n");
    puts("nothing was used that was not announced\n");
    power_off();
}

/* Nobody promised a conduit, so the instruction itself may be UNDEFINED. */
static int without_psci(void) {
    puts("no /psci in the device tree: nothing is promised\n");
    guard_arm();
    u64 answer = hvc(PSCI_VERSION).x0;
    if (!guard_hit()) {
        printf("one guarded hvc #0 all the same: PSCI_VERSION = 0x%llx, from an unannounced EL2\n",
               answer);
        return 0;
    }
    printf("UNDEF: HVC is UNDEFINED at EL1 here: ESR 0x%016llx, ELR 0x%016llx; ", guard.esr,
           guard.elr);
    puts("nobody lives at EL2\n");
    return STATUS_NO_EL2;
}

int main(const void *dtb) {
    const struct machine *m = machine_read(dtb);
    if (m->conduit == CONDUIT_NONE)
        return without_psci();
    printf("/psci: %s, conduit %s; /hypervisor: %s; %u cpu(s)\n", m->psci,
           m->conduit == CONDUIT_HVC ? "hvc" : "smc", m->hypervisor ? m->hypervisor : "none",
           m->cpus);
    if (m->psci_0_2)
        discover();
    puts("PSCI 0.1: the device tree gives the function ids, and there is nothing to discover\n");
    return 0;
}
