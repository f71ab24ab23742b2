/*
 * hvc_loop: PSCI_VERSION by HVC in a tight loop, for measuring a call's cost.
 *
 * The number of calls is the 64-bit word at the symbol `loop_count`: patch it before the run.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0
#include "lib/smccc.h"

    .section .text.main, "ax"
    .global main
    .type main, %function
main:
    adrp    x20, loop_count
    ldr     x20, [x20, :lo12:loop_count]
    cbz     x20, 2f
1:  ldr     w0, =PSCI_VERSION
    hvc     #0
    subs    x20, x20, #1
    b.ne    1b
2:  mov     w0, #0                          // start.S exits with main's value
    ret
    .size main, . - main

    .data
    .balign 8
    .global loop_count
    .type loop_count, %object
    .size loop_count, 8
loop_count:
    .quad   1000000
