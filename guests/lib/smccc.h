/*
 * Function identifiers and return codes, by the names of their specifications.
 *
 * DEN0028 the SMC calling convention, DEN0022 PSCI, DEN0098 TRNG, DEN0057 paravirtualised time.
 * The vendor-specific hypervisor range (owner 6) is Linux's include/linux/arm-smccc.h.
 * Plain numbers only: the file is read by the assembler too.
 */
#ifndef GUEST_SMCCC_H
#define GUEST_SMCCC_H

/* DEN0028: Arm architecture calls (owner 0). */
#define SMCCC_VERSION               0x80000000
#define SMCCC_ARCH_FEATURES         0x80000001
#define SMCCC_ARCH_SOC_ID           0x80000002
#define SMCCC_ARCH_WORKAROUND_3     0x80003FFF
#define SMCCC_ARCH_WORKAROUND_2     0x80007FFF
#define SMCCC_ARCH_WORKAROUND_1     0x80008000

#define SMCCC_1_0                   0x10000
#define SMCCC_1_1                   0x10001
#define SMCCC_1_2                   0x10002

/* DEN0022: PSCI (owner 4, numbers 0x00-0x1f). */
#define PSCI_VERSION                0x84000000
#define PSCI_CPU_SUSPEND_64         0xC4000001
#define PSCI_CPU_OFF                0x84000002
#define PSCI_CPU_ON_64              0xC4000003
#define PSCI_AFFINITY_INFO_64       0xC4000004
#define PSCI_MIGRATE_INFO_TYPE      0x84000006
#define PSCI_MIGRATE_INFO_UP_CPU_64 0xC4000007
#define PSCI_SYSTEM_OFF             0x84000008
#define PSCI_FEATURES               0x8400000A
#define PSCI_SYSTEM_SUSPEND_64      0xC400000E
#define PSCI_SYSTEM_RESET2_64       0xC4000012
#define PSCI_SYSTEM_OFF2_64         0xC4000015

#define PSCI_1_0                    0x10000

/* DEN0022: return codes, and the states of AFFINITY_INFO. */
#define PSCI_SUCCESS                0
#define PSCI_NOT_SUPPORTED          (-1)
#define PSCI_INVALID_PARAMETERS     (-2)
#define PSCI_ALREADY_ON             (-4)
#define PSCI_ON                     0
#define PSCI_OFF                    1

/* DEN0098: the TRNG firmware interface (owner 4, numbers 0x50-0x53). */
#define TRNG_VERSION                0x84000050
#define TRNG_FEATURES               0x84000051
#define TRNG_GET_UUID               0x84000052
#define TRNG_RND32                  0x84000053
#define TRNG_RND64                  0xC4000053

#define TRNG_1_0                    0x10000
#define TRNG_INVALID_PARAMETERS     (-2)
#define TRNG_NO_ENTROPY             (-3)

/* DEN0057: paravirtualised time (owner 5). */
#define PV_TIME_FEATURES            0xC5000020
#define PV_TIME_ST                  0xC5000021

/* Owner 6, the vendor-specific hypervisor. The UID is DEN0028; the rest is KVM's. */
#define VENDOR_HYP_CALL_UID         0x8600FF01
#define KVM_FEATURES                0x86000000
#define KVM_PTP                     0x86000001
#define KVM_FEATURE_PTP             (1u << 1)
#define KVM_PTP_VIRTUAL             0
#define KVM_PTP_PHYSICAL            1

#define NOT_SUPPORTED               (-1)

/* MPIDR_EL1's affinity fields, the form of every PSCI target (DEN0022). */
#define MPIDR_AFFINITY              0xFF00FFFFFF

/* Semihosting (ARM-software/abi-aa semihosting.rst): operations by HLT #0xF000. */
#define SYS_OPEN                    0x01
#define SYS_CLOSE                   0x02
#define SYS_WRITEC                  0x03
#define SYS_WRITE0                  0x04
#define SYS_WRITE                   0x05
#define SYS_READC                   0x07
#define SYS_CLOCK                   0x10
#define SYS_EXIT_EXTENDED           0x20
#define ADP_STOPPED_APPLICATION_EXIT 0x20026

/* The runtime's own exit statuses, clear of what guests return. */
#define EXIT_UNEXPECTED_EXCEPTION   70
#define EXIT_UNKNOWN_CPU            71

#define MAX_CPUS                    8
#define STACK_SIZE                  0x2000

#endif
