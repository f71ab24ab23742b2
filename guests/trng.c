/*
 * trng: the TRNG firmware interface (DEN0098) at its borders.
 *
 * For N requested bits the answer is right-aligned over the registers, the lowest bits in x3, and
 * every bit at or above N is zero (DEN0098). N beyond the width is INVALID_PARAMETERS.
 * That random bits are not stuck is checked by two draws of 64 that must differ.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"trng: ok"
#include "lib/guest.h"

#define PATIENCE 20     /* draws before NO_ENTROPY is believed, as drivers/char/hw_random does */

static bool all_ok = true;

static void verdict(const char *name, u32 bits, const struct regs4 *r, bool ok) {
    printf("%s(%3u) = %2d  %016llx %016llx %016llx  %s\n", name, bits, (s32)r->x0, r->x1, r->x2,
           r->x3, ok ? "ok" : "FAIL");
    all_ok = all_ok && ok;
}

static struct regs4 draw(u32 fid, u32 bits) {
    struct regs4 answer = firmware(fid, bits);
    for (unsigned i = 1; i < PATIENCE && (s32)answer.x0 == TRNG_NO_ENTROPY; i++)
        answer = firmware(fid, bits);
    return answer;
}

/* Are the bits of `value`, which stand for entropy bits [base, base+width), zero from `bits` on? */
static bool clear_above(u64 value, u32 base, u32 width, u32 bits) {
    u32 valid = bits <= base ? 0 : bits - base;
    if (valid >= width)
        return width == 64 || value >> width == 0;
    return value >> valid == 0;
}

static void check(const char *name, u32 fid, u32 width, u32 bits) {
    struct regs4 r = draw(fid, bits);
    verdict(name, bits, &r,
            r.x0 == 0 && clear_above(r.x3, 0, width, bits) &&
                clear_above(r.x2, width, width, bits) && clear_above(r.x1, 2 * width, width, bits));
}

static void check_refusal(const char *name, u32 fid, u32 bits) {
    struct regs4 r = firmware(fid, bits);
    verdict(name, bits, &r, (s32)r.x0 == TRNG_INVALID_PARAMETERS);
}

/* 192 bits use all three registers: each is zero with a chance of 2^-64. */
static void check_spread(void) {
    struct regs4 first = draw(TRNG_RND64, 192), second = draw(TRNG_RND64, 192);
    bool ok = first.x1 && first.x2 && first.x3 && first.x1 != second.x1 && first.x3 != second.x3;
    printf("two draws of 192 bits fill x1-x3 and differ: %s\n", ok ? "ok" : "FAIL");
    all_ok = all_ok && ok;
}

static bool announced(u32 fid) { return (s32)firmware(TRNG_FEATURES, fid).x0 >= 0; }

int main(const void *dtb) {
    static const u32 sizes64[] = {1, 63, 64, 65, 128, 191, 192};
    static const u32 sizes32[] = {1, 32, 96};
    machine_read(dtb);
    if (!trng_present()) {
        puts("trng: absent here, nothing to check\n");
        power_off();
    }
    if (announced(TRNG_RND64)) {
        for (unsigned i = 0; i < LENGTH(sizes64); i++)
            check("RND64", TRNG_RND64, 64, sizes64[i]);
        check_refusal("RND64", TRNG_RND64, 193);
        check_spread();
    }
    if (announced(TRNG_RND32)) {
        for (unsigned i = 0; i < LENGTH(sizes32); i++)
            check("RND32", TRNG_RND32, 32, sizes32[i]);
        check_refusal("RND32", TRNG_RND32, 97);
    }
    if (!all_ok) {
        puts("trng: FAIL\n");
        return 1;
    }
    puts("trng: ok\n");
    power_off();
}
