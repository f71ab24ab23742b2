/*
 * uboot_trng_null: the driver is there, its service is not.
 *
 * A TRNG device whose SMCCC feature was not bound had no private data, and its probe went through
 * the pointer all the same.
 * Right: a feature that was not found leaves no device behind; who looks for one must see NULL.
 */
// bug: 11 u-boot 1da4d327d4
// run: profile=kvm-6.12 cpus=1 services=-trng
// caught: rule crash-after-refusal
// caught: ending exit 70
#include "lib/guest.h"

struct private { u64 (*read)(void); };

static u64 rnd64(void) { return firmware(TRNG_RND64, 64).x3; }
static struct private trng = {rnd64};

/* volatile: the compiler must not see through it either */
static struct private *volatile bound;

int main(const void *dtb) {
    machine_read(dtb);
    if (trng_present())
        bound = &trng;
    printf("%llx\n", bound->read());
    power_off();
}
