/*
 * The one place with an HVC and an SMC instruction. SMCCC 1.0 lets the callee destroy x4-x17
 * (DEN0028), and before SMCCC_VERSION nobody knows that it does not, so all are given up.
 */
#include "guest.h"

#define CALL(instruction)                                                                          \
    __asm__ volatile(instruction                                                                   \
                     : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3), "+r"(x4), "+r"(x5), "+r"(x6),       \
                       "+r"(x7)                                                                    \
                     :                                                                             \
                     : "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "cc",   \
                       "memory")

struct regs4 smccc_call(enum conduit conduit, u64 fid, struct args args) {
    register u64 x0 __asm__("x0") = fid;
    register u64 x1 __asm__("x1") = args.x1;
    register u64 x2 __asm__("x2") = args.x2;
    register u64 x3 __asm__("x3") = args.x3;
    register u64 x4 __asm__("x4") = args.x4;
    register u64 x5 __asm__("x5") = args.x5;
    register u64 x6 __asm__("x6") = args.x6;
    register u64 x7 __asm__("x7") = args.x7;
    switch (conduit) {
    case CONDUIT_HVC: CALL("hvc #0"); break;
    case CONDUIT_SMC: CALL("smc #0"); break;
    case CONDUIT_NONE: return (struct regs4){.x0 = (u64)NOT_SUPPORTED};
    }
    return (struct regs4){x0, x1, x2, x3};
}
