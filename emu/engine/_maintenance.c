/* Cache maintenance by which a guest says that it has changed code. Its twin is maintenance.py,
 * which has the reasons.
 */
#include "_hooks.h"

enum { LINE = 64, PAGE = 4096, LOOP = 4 };
enum { CTL_REMOVE_CODE = 1 << 30 | 2 << 26 | 9 }; /* cpu.py:CTL_TB_REMOVE_CACHE */

static void without_mmu(Hooks *h, uint64_t address)
{
    CpReg sctlr = {.crn = 1, .op0 = 3};
    uint64_t was = get_system(h, sctlr);
    sctlr.val = was & ~(uint64_t)1;
    h->api.reg_write(h->uc, REG_CP_REG, &sctlr);
    h->api.ctl(h->uc, CTL_REMOVE_CODE, address, address + PAGE);
    sctlr.val = was;
    h->api.reg_write(h->uc, REG_CP_REG, &sctlr);
}

/* IC IVAU: maintenance.py:Maintenance._forget_line has the reasons. */
static void forget_line(Hooks *h, uint64_t address)
{
    uint64_t line = address & ~(uint64_t)(LINE - 1), physical;
    uint64_t now = counter_instructions_at(&h->c, get(h, h->numbers.pc));
    int goes_on = line == h->cleaned + LINE && line & (PAGE - 1) && now - h->cleaned_at <= LOOP;
    h->cleaned = line;
    h->cleaned_at = now;
    if (goes_on)
        return;
    if (!h->api.vmem_translate(h->uc, line, PROT_EXEC, &physical))
        h->api.ctl(h->uc, CTL_REMOVE_CODE, line & ~(uint64_t)(PAGE - 1),
                   (line & ~(uint64_t)(PAGE - 1)) + PAGE);
    else if (!h->api.vmem_translate(h->uc, line, PROT_READ, &physical))
        without_mmu(h, physical & ~(uint64_t)(PAGE - 1));
}

uint32_t on_sys(void *uc, int source, const CpReg *reg, void *user)
{
    Hooks *h = user;
    (void)uc;
    (void)source;
    if (reg->crn == 7 && reg->crm == 5 && reg->op1 == 3 && reg->op2 == 1) {
        forget_line(h, reg->val); /* IC IVAU */
    } else if (reg->crn == 7 && (reg->crm == 1 || reg->crm == 5) && !reg->op1 && !reg->op2) {
        h->stale = 1; /* IC IALLUIS, IC IALLU */
        blocks_set_limit(h);
    } else {
        h->cleaned = NEVER;
    }
    return 0;
}
