/*
 * Finding services in the legal order: PSCI_VERSION, PSCI_FEATURES(SMCCC_VERSION), SMCCC_VERSION,
 * and only then anything newer (DEN0028; linux v6.17 drivers/firmware/psci/psci.c:
 * psci_probe). Each function makes every call its own answer depends on, silently.
 */
#include "guest.h"

u32 smccc_version(void) {
    if (machine.conduit == CONDUIT_NONE || !machine.psci_0_2)
        return 0;
    s32 psci = (s32)firmware(PSCI_VERSION).x0;
    if (psci < PSCI_1_0)
        return SMCCC_1_0;
    if ((s32)firmware(PSCI_FEATURES, SMCCC_VERSION).x0 == NOT_SUPPORTED)
        return SMCCC_1_0;
    s32 version = (s32)firmware(SMCCC_VERSION).x0;
    return version >= SMCCC_1_1 ? (u32)version : SMCCC_1_0;
}

bool trng_present(void) {
    return smccc_version() >= SMCCC_1_1 && (s32)firmware(TRNG_VERSION).x0 >= TRNG_1_0;
}

/* Linux asks for the UID only by HVC: by SMC a vendor hypervisor would not be the one to answer. */
bool vendor_uid(u32 words[4]) {
    if (machine.conduit != CONDUIT_HVC || smccc_version() < SMCCC_1_1)
        return false;
    struct regs4 uid = firmware(VENDOR_HYP_CALL_UID);
    words[0] = (u32)uid.x0, words[1] = (u32)uid.x1, words[2] = (u32)uid.x2, words[3] = (u32)uid.x3;
    return words[0] != (u32)NOT_SUPPORTED;
}

/* KVM: linux v6.17 include/linux/arm-smccc.h. Xen: xen include/public/arch-arm/smccc.h.
 * Hyper-V: linux v6.17 arch/arm64/hyperv/mshyperv.c. Gunyah: its hyp/vm/smccc. */
static const struct { const char *name; u32 words[4]; } vendors[] = {
    {"KVM", {0xB66FB428, 0xE911C52E, 0x564BCAA9, 0x743A004D}},
    {"Xen", {0xDC1218A7, 0x694398C6, 0xD179CF9A, 0x67E6DE8D}},
    {"Hyper-V", {0x4D32BA58, 0xCD244764, 0x8EEF6C75, 0x16597024}},
    {"Gunyah", {0xCD8FD5C1, 0xDB5F53A4, 0x36CE6592, 0x145F3D67}},
};

const char *vendor_name(const u32 words[4]) {
    for (unsigned i = 0; i < LENGTH(vendors); i++)
        if (!memcmp(vendors[i].words, words, sizeof(vendors[i].words)))
            return vendors[i].name;
    return "unknown hypervisor";
}

bool is_kvm(const u32 words[4]) {
    return !memcmp(vendors[0].words, words, sizeof(vendors[0].words));
}
